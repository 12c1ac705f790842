//! Keeps all that leadpool tells: every metric, every span and event, and what the driver logs.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, OnceLock, atomic::Ordering},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// All of it, since the process began.
pub(crate) struct Capture {
    registry: Registry<Key, AtomicStorage>,
    described: Mutex<BTreeMap<String, (Option<Unit>, SharedString)>>,
    lines: Mutex<Vec<Line>>,
}

/// A span or an event.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) is_span: bool,
    pub(crate) target: String,
    pub(crate) level: tracing::Level,
    /// The fields that it may have, its message left out.
    pub(crate) fields: Vec<&'static str>,
    pub(crate) values: BTreeMap<&'static str, String>,
    /// The spans that it is in, the innermost first.
    pub(crate) within: Vec<&'static str>,
}

impl Line {
    pub(crate) fn value(&self, field: &str) -> &str {
        self.values.get(field).map_or("", String::as_str)
    }

    fn new(metadata: &'static tracing::Metadata<'static>) -> Self {
        Self {
            name: metadata.name(),
            is_span: metadata.is_span(),
            target: metadata.target().to_owned(),
            level: *metadata.level(),
            fields: metadata
                .fields()
                .iter()
                .map(|field| field.name())
                .filter(|name| *name != "message")
                .collect(),
            values: BTreeMap::new(),
            within: Vec::new(),
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.values.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.values.insert(field.name(), format!("{value:?}"));
    }
}

/// Begins to capture, or goes on.
pub(crate) fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let capture = CAPTURE.get_or_init(|| Capture {
        registry: Registry::atomic(),
        described: Mutex::default(),
        lines: Mutex::default(),
    });
    INSTALLED.get_or_init(|| {
        metrics::set_global_recorder(Meters(capture)).unwrap();
        // Takes the crate `log` along.
        tracing_subscriber::registry()
            .with(Listener(capture))
            .init();
    });
    capture
}

impl Capture {
    /// A series: the sum of those that have these labels, and maybe others.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        self.registry.visit_counters(|key, counter| {
            if is_meant(key, name, labels) {
                sum += counter.load(Ordering::Acquire) as f64;
            }
        });
        self.registry.visit_gauges(|key, gauge| {
            let value = f64::from_bits(gauge.load(Ordering::Acquire));
            if is_meant(key, name, labels) && !value.is_nan() {
                sum += value;
            }
        });
        sum
    }

    /// What a histogram was given.
    pub(crate) fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let mut all = Vec::new();
        self.registry.visit_histograms(|key, histogram| {
            if is_meant(key, name, labels) {
                all.extend(histogram.data());
            }
        });
        all
    }

    /// Every series, with the kind of its metric.
    pub(crate) fn series(&self) -> Vec<(&'static str, Key)> {
        let mut all = Vec::new();
        self.registry
            .visit_counters(|key, _| all.push(("counter", key.clone())));
        self.registry
            .visit_gauges(|key, _| all.push(("gauge", key.clone())));
        self.registry
            .visit_histograms(|key, _| all.push(("histogram", key.clone())));
        all
    }

    /// What the recorder was told of a metric.
    pub(crate) fn description(&self, name: &str) -> Option<(Option<Unit>, SharedString)> {
        self.described.lock().unwrap().get(name).cloned()
    }

    /// The spans and events that were seen so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// Those of a name that one pool has told of.
    pub(crate) fn told(&self, pool: &str, name: &str) -> Vec<Line> {
        let mut lines = self.lines();
        lines.retain(|line| {
            line.name == name && line.value("db.client.connection.pool.name") == pool
        });
        lines
    }
}

fn is_meant(key: &Key, name: &str, labels: &[(&str, &str)]) -> bool {
    key.name() == name
        && labels.iter().all(|(label, value)| {
            key.labels()
                .any(|own| own.key() == *label && own.value() == *value)
        })
}

struct Meters(&'static Capture);

impl Meters {
    fn describe(&self, name: KeyName, unit: Option<Unit>, about: SharedString) {
        let mut described = self.0.described.lock().unwrap();
        described.insert(name.as_str().to_owned(), (unit, about));
    }
}

impl Recorder for Meters {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, about: SharedString) {
        self.describe(name, unit, about);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, about: SharedString) {
        self.describe(name, unit, about);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, about: SharedString) {
        self.describe(name, unit, about);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let registry = &self.0.registry;
        registry.get_or_create_counter(key, |counter| Counter::from_arc(counter.clone()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let registry = &self.0.registry;
        registry.get_or_create_gauge(key, |gauge| Gauge::from_arc(gauge.clone()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let registry = &self.0.registry;
        registry.get_or_create_histogram(key, |histogram| Histogram::from_arc(histogram.clone()))
    }
}

struct Listener(&'static Capture);

/// Where the line of a span stands.
struct Place(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listener {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut line = Line::new(attributes.metadata());
        attributes.record(&mut line);
        let span = context.span(id).unwrap();
        line.within = span.scope().skip(1).map(|span| span.name()).collect();
        let mut lines = self.0.lines.lock().unwrap();
        span.extensions_mut().insert(Place(lines.len()));
        lines.push(line);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let extensions = span.extensions();
        let Place(at) = extensions.get().unwrap();
        record.record(&mut self.0.lines.lock().unwrap()[*at]);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::new(event.metadata());
        event.record(&mut line);
        let scope = context.event_scope(event);
        line.within = scope
            .into_iter()
            .flatten()
            .map(|span| span.name())
            .collect();
        self.0.lines.lock().unwrap().push(line);
    }
}
