//! What pods use, asked of whoever knows.

use serde_json::Value;
use std::future::Future;
use std::pin::Pin;

/// What comes of asking.
pub type Told<'a> = Pin<Box<dyn Future<Output = Result<Vec<Value>, String>> + Send + 'a>>;

/// Whoever knows what pods use.
pub trait Meter: Send + Sync {
    /// What the pods of a namespace that a selector means use now, each as `metrics.k8s.io` writes it; those of which it
    /// is not known are left out. An error says why nothing can be told at all.
    fn usage<'a>(&'a self, namespace: &'a str, selector: &'a str) -> Told<'a>;
}

/// Nobody knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn usage<'a>(&'a self, _namespace: &'a str, _selector: &'a str) -> Told<'a> {
        let why = "the server could not find the requested resource (get pods.metrics.k8s.io)";
        Box::pin(std::future::ready(Err(why.into())))
    }
}
