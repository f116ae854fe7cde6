//! What the table of alerts is made of.

/// A series that is computed ahead: an expression that is asked for often, or over a long time.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Its name, as Prometheus' authors advise: `level:metric:operations`.
    pub name: &'static str,
    /// What it is, in PromQL.
    pub expr: &'static str,
}

/// An alert. Its name is a heading of docs/TROUBLESHOOTING.md.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    /// Its name: `Kvorum…`.
    pub name: &'static str,
    /// Whom it wakes.
    pub severity: Severity,
    /// What holds while it fires, in PromQL.
    pub expr: &'static str,
    /// For how long that must hold, such as `2m`; empty for not at all.
    pub lasts: &'static str,
    /// One sentence, with `{label}` for a label's value and `{value}` for the expression's.
    pub summary: &'static str,
    /// What it means, and what to do first. It may hold the same.
    pub description: &'static str,
    /// How Prometheus writes the value: one of its template functions. Empty where no text holds it.
    pub written: &'static str,
    /// When it must fire.
    pub fires: Case,
    /// When it must not, though it nearly does.
    pub silent: Silence,
}

/// How urgent an alert is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Somebody is woken: clients fail, or the next fault makes them.
    Critical,
    /// Somebody looks at it within a working day.
    Warning,
}

impl Severity {
    /// The value of the label `severity`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// Series at which an alert fires: one sample a minute.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Each with its samples, as promtool writes them: `1x5 0x10` is six times 1 and eleven times 0.
    pub series: &'static [(&'static str, &'static str)],
    /// When it fires.
    pub at: &'static str,
    /// The labels that it has then, besides `severity`.
    pub labels: &'static [(&'static str, &'static str)],
    /// The value, as it is written then.
    pub value: &'static str,
}

/// Series at which an alert does not fire.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// As [`Case::series`].
    pub series: &'static [(&'static str, &'static str)],
    /// When it does not fire.
    pub at: &'static str,
}

impl Alert {
    /// A text as Prometheus reads it.
    pub fn template(&self, text: &str) -> String {
        replace(text, |name| match name {
            "value" => format!("{{{{ $value | {} }}}}", self.written),
            label => format!("{{{{ $labels.{label} }}}}"),
        })
    }

    /// A text as Prometheus writes it in the case in which the alert fires.
    ///
    /// # Panics
    /// The text names a label that the case does not have: the table is wrong.
    pub fn written_out(&self, text: &str) -> String {
        replace(text, |name| {
            let label = || self.fires.labels.iter().find(|(label, _)| *label == name);
            let value = if name == "value" { self.fires.value } else { label().expect("a label of the case").1 };
            value.to_owned()
        })
    }
}

/// Replaces each `{name}`.
fn replace(text: &str, with: impl Fn(&str) -> String) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, behind)| Some((before, behind.split_once('}')?)))
    {
        replaced.push_str(before);
        replaced.push_str(&with(name));
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}
