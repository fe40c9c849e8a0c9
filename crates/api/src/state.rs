//! What every request's handler shares.

use crate::authn::{BootstrapTokens, Oidc, RequestHeader, StaticTokens, TokenAuthenticator};
use crate::metrics::Metrics;
use crate::service::Handles;
use crate::tls::Verifiers;
use crate::{Error, Options, discovery};
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_registry::Registry;
use stoa_streams::{Extension, Opener};
use stoa_units::Time;
use tokio_util::sync::CancellationToken;

pub(crate) struct State {
    pub(crate) registry: Arc<Registry>,
    pub(crate) tokens: Vec<Arc<dyn TokenAuthenticator>>,
    pub(crate) request_header: Option<RequestHeader>,
    pub(crate) verifiers: Verifiers,
    oidc: Option<Arc<Oidc>>,
    pub(crate) opener: Option<Arc<dyn Opener>>,
    pub(crate) extension: Option<Arc<dyn Extension>>,
    pub(crate) metrics: Metrics,
    pub(crate) discovery: discovery::Documents,
    pub(crate) jwks: Option<String>,
    pub(crate) token_issuer: Option<String>,
    pub(crate) flags: BTreeMap<String, String>,
    /// Since when there is a door.
    pub(crate) started: Time,
    /// By what ids flows are told.
    pub(crate) flows: crate::flow::Uids,
    /// What nodes used a moment ago.
    pub(crate) figures: crate::route::Figures,
    /// Ends watches and logs when the door closes.
    pub(crate) closing: CancellationToken,
}

impl State {
    pub(crate) fn new(
        options: &Options,
        handles: Handles,
        verifiers: Verifiers,
        address: std::net::SocketAddr,
    ) -> Result<State, Error> {
        let mut tokens: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
        if !options.static_tokens.is_empty() {
            tokens.push(Arc::new(StaticTokens::new(options.static_tokens.clone())));
        }
        tokens.extend(handles.tokens);
        tokens.push(Arc::new(BootstrapTokens(handles.registry.clone())));
        let clock = handles.registry.clock();
        let oidc = options.oidc.as_ref().map(|o| Oidc::new(o, clock.clone()).map(Arc::new)).transpose()?;
        tokens.extend(oidc.clone().map(|o| o as Arc<dyn TokenAuthenticator>));
        let started = clock.now();
        Ok(State {
            registry: handles.registry,
            tokens,
            request_header: options.request_header.clone(),
            verifiers,
            oidc,
            opener: handles.opener,
            extension: handles.extension,
            metrics: Metrics::default(),
            discovery: discovery::Documents::new(&options.version, address),
            jwks: options.jwks.clone(),
            token_issuer: options.token_issuer.clone(),
            flags: options.flags.clone(),
            started,
            flows: Default::default(),
            figures: Default::default(),
            closing: CancellationToken::new(),
        })
    }

    /// Makes ready to judge a token: its issuer's keys may have to be fetched.
    pub(crate) async fn prepare(&self, token: &str) {
        if let Some(oidc) = &self.oidc {
            oidc.prepare(token).await;
        }
    }
}
