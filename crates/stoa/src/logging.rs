//! What this process writes to its log: a filter that operators of Mesos' kind can make more talkative for a while.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use stoa_mesos_master::Verbosity;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is said where `STOA_LOG` does not decide.
const DEFAULT: &str = "info,hickory_server=warn";

type Handle = reload::Handle<EnvFilter, Registry>;

struct Logging {
    handle: Handle,
    base: String,
    /// Who asked for which level; the highest counts. The number tells an old request's end from a newer one's.
    asked: Mutex<BTreeMap<&'static str, (u32, u64)>>,
}

static LOGGING: OnceLock<Arc<Logging>> = OnceLock::new();

/// Begins to log.
pub fn init() {
    let base = std::env::var("STOA_LOG").ok().filter(|text| EnvFilter::try_new(text).is_ok());
    let base = base.unwrap_or_else(|| DEFAULT.to_owned());
    let (filter, handle) = reload::Layer::new(filter(&base, 0));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let _ = LOGGING.set(Arc::new(Logging { handle, base, asked: Mutex::default() }));
}

/// Levels as Mesos' programs have them: 1 and 2 say what is done, 3 and more every step. Libraries are left as they are.
fn filter(base: &str, level: u32) -> EnvFilter {
    let more = match level {
        0 => "",
        1 | 2 => ",stoa=debug",
        _ => ",stoa=trace",
    };
    EnvFilter::new(format!("{base}{more}"))
}

/// The verbosity of one part of this process; the most talkative part decides for all.
pub fn verbosity(part: &'static str) -> Arc<Verbosity> {
    let Some(logging) = LOGGING.get() else { return Arc::default() };
    let logging = Arc::clone(logging);
    let waiting: Mutex<Option<tokio::task::JoinHandle<()>>> = Mutex::default();
    Arc::new(Verbosity::new(Arc::new(move |level, lasts| {
        let number = logging.note(part, level);
        let logging = Arc::clone(&logging);
        let next = tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            logging.end(part, number);
        });
        if let Some(before) = waiting.lock().replace(next) {
            before.abort();
        }
    })))
}

impl Logging {
    fn note(&self, part: &'static str, level: u32) -> u64 {
        let mut asked = self.asked.lock();
        let number = asked.get(part).map_or(0, |(_, n)| n + 1);
        asked.insert(part, (level, number));
        self.apply(&asked);
        number
    }

    fn end(&self, part: &'static str, number: u64) {
        let mut asked = self.asked.lock();
        if let Some((level, _)) = asked.get_mut(part).filter(|(_, n)| *n == number) {
            *level = 0;
            self.apply(&asked);
        }
    }

    fn apply(&self, asked: &BTreeMap<&'static str, (u32, u64)>) {
        let level = asked.values().map(|(level, _)| *level).max().unwrap_or(0);
        match self.handle.reload(filter(&self.base, level)) {
            Ok(()) => tracing::info!(level, "the log's level is set"),
            Err(error) => tracing::warn!(%error, "cannot set the log's level"),
        }
    }
}
