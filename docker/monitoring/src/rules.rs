//! Alerts as Prometheus reads them, and their cases as promtool does.

use crate::alert::Alert;
use crate::{ALERTS, RECORDED};
use std::fmt::Write as _;

/// How often the rules are looked at. What an alert needs at most beyond the time for which it must last: this, and one scrape.
pub const EVALUATED: &str = "15s";

const HEAD: &str = "# Written by `cargo run -p kvorum-monitoring` from the table in docker/monitoring/src/alerts.rs: change that one.\n";

/// A text as a scalar of YAML: JSON's strings are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The annotations of an alert, with its texts as `written` says.
fn annotations(alert: &Alert, runbooks: &str, written: impl Fn(&str) -> String) -> [(&'static str, String); 3] {
    [
        ("summary", written(alert.summary)),
        ("description", written(alert.description)),
        ("runbook_url", format!("{runbooks}#{}", alert.name.to_lowercase())),
    ]
}

/// `rules.yml`.
pub fn rules(runbooks: &str) -> String {
    let mut text = HEAD.to_owned();
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to memory works");
    line("groups:".to_owned());
    line("  - name: kvorum-ratios".to_owned());
    line(format!("    interval: {EVALUATED}"));
    line("    rules:".to_owned());
    for recorded in RECORDED {
        line(format!("      - record: {}", recorded.name));
        line(format!("        expr: {}", quoted(recorded.expr)));
    }
    line("  - name: kvorum".to_owned());
    line(format!("    interval: {EVALUATED}"));
    line("    rules:".to_owned());
    for alert in ALERTS {
        line(format!("      - alert: {}", alert.name));
        line(format!("        expr: {}", quoted(alert.expr)));
        if !alert.lasts.is_empty() {
            line(format!("        for: {}", alert.lasts));
        }
        line(format!("        labels: {{severity: {}}}", alert.severity.label()));
        line("        annotations:".to_owned());
        for (name, value) in annotations(alert, runbooks, |text| alert.template(text)) {
            line(format!("          {name}: {}", quoted(&value)));
        }
    }
    text
}

/// `rules.test.yml`: a case in which each alert fires, and one in which it does not.
pub fn tests(runbooks: &str) -> String {
    let mut text = HEAD.to_owned();
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to memory works");
    line("rule_files: [rules.yml]".to_owned());
    line(format!("evaluation_interval: {EVALUATED}"));
    line("tests:".to_owned());
    for alert in ALERTS {
        let cases = [
            ("fires", alert.fires.series, alert.fires.at, true),
            ("is silent", alert.silent.series, alert.silent.at, false),
        ];
        for (what, series, at, fires) in cases {
            line(format!("  - name: {} {what}", alert.name));
            line("    interval: 1m".to_owned());
            line("    input_series:".to_owned());
            for (series, samples) in series {
                line(format!("      - {{series: {}, values: {}}}", quoted(series), quoted(samples)));
            }
            line("    alert_rule_test:".to_owned());
            line(format!("      - eval_time: {at}"));
            line(format!("        alertname: {}", alert.name));
            if !fires {
                continue;
            }
            line("        exp_alerts:".to_owned());
            line("          - exp_labels:".to_owned());
            line(format!("              severity: {}", alert.severity.label()));
            for (name, value) in alert.fires.labels {
                line(format!("              {name}: {}", quoted(value)));
            }
            line("            exp_annotations:".to_owned());
            for (name, value) in annotations(alert, runbooks, |text| alert.written_out(text)) {
                line(format!("              {name}: {}", quoted(&value)));
            }
        }
    }
    text
}
