//! Every metric and label that a panel or an alert names is in docs/METRICS.md. A test of the node compares that page with what nodes
//! expose.

use kvorum_monitoring::{ALERTS, DASHBOARDS, RECORDED};
use rusty_promql_parser::ast::Expr;
use rusty_promql_parser::expr;
use rusty_promql_parser::parser::selector::VectorSelector;
use std::collections::{BTreeMap, BTreeSet};

/// Labels that Prometheus gives each series of a target.
const OF_TARGETS: [&str; 3] = ["cluster", "instance", "job"];

/// Metrics and their labels.
type Known = BTreeMap<String, BTreeSet<String>>;

fn with_targets<'a>(labels: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    labels.into_iter().chain(OF_TARGETS).map(str::to_owned).collect()
}

/// What docs/METRICS.md lists, what Prometheus itself makes, and what is computed ahead.
fn known() -> Known {
    let mut known = Known::new();
    for line in include_str!("../../../docs/METRICS.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", name, kind @ ("counter" | "gauge" | "histogram"), labels, ..] = cells[..] else { continue };
        let (name, labels) = (name.trim_matches('`'), with_targets(labels.split('`').skip(1).step_by(2)));
        if kind == "histogram" {
            let with_end: BTreeSet<String> = labels.iter().cloned().chain(["le".to_owned()]).collect();
            known.insert(format!("{name}_bucket"), with_end);
            known.insert(format!("{name}_count"), labels.clone());
            known.insert(format!("{name}_sum"), labels);
        } else {
            known.insert(name.to_owned(), labels);
        }
    }
    assert!(known.len() > 80, "the tables of METRICS.md were not found");
    for of_prometheus in ["up", "scrape_duration_seconds"] {
        known.insert(of_prometheus.to_owned(), with_targets([]));
    }
    known.insert("ALERTS".to_owned(), with_targets(["alertname", "alertstate", "severity"]));
    for recorded in RECORDED {
        known.insert(recorded.name.to_owned(), BTreeSet::from(["cluster".to_owned()]));
    }
    known
}

/// What an expression names.
#[derive(Default)]
struct Named {
    /// Metrics, each with the labels of its matchers.
    metrics: Vec<(String, Vec<String>)>,
    /// Labels by which series are put together or compared.
    labels: Vec<String>,
}

impl Named {
    fn select(&mut self, selector: &VectorSelector) {
        let labels = selector.matchers.iter().map(|matcher| matcher.name.clone());
        self.metrics.push((selector.name.clone().expect("a selector names its metric"), labels.collect()));
    }

    fn visit(&mut self, expr: &Expr) {
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::VectorSelector(selector) => self.select(selector),
            Expr::MatrixSelector(matrix) => self.select(&matrix.selector),
            Expr::Call(call) => call.args.iter().for_each(|argument| self.visit(argument)),
            Expr::Aggregation(aggregation) => {
                self.labels.extend(aggregation.grouping.iter().flat_map(|grouping| grouping.labels.iter().cloned()));
                self.visit(&aggregation.expr);
            }
            Expr::Binary(binary) => {
                let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
                self.labels.extend(matching.iter().flat_map(|matching| matching.labels.iter().cloned()));
                self.visit(&binary.lhs);
                self.visit(&binary.rhs);
            }
            Expr::Unary(unary) => self.visit(&unary.expr),
            Expr::Paren(inner) => self.visit(inner),
            Expr::Subquery(subquery) => self.visit(&subquery.expr),
        }
    }
}

/// What is wrong with an expression; `also` are labels that a text besides it names.
fn wrong(text: &str, also: &[&str], known: &Known) -> Option<String> {
    let parsed = match expr(text) {
        Ok(("", parsed)) => parsed,
        Ok((rest, _)) => return Some(format!("it is no PromQL from here on: {rest}")),
        Err(error) => return Some(error.to_string()),
    };
    let mut named = Named::default();
    named.visit(&parsed);
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    for (metric, matched) in &named.metrics {
        let Some(of_metric) = known.get(metric) else { return Some(format!("there is no metric {metric}")) };
        if let Some(label) = matched.iter().find(|label| !of_metric.contains(*label)) {
            return Some(format!("{metric} has no label {label}"));
        }
        labels.extend(of_metric.iter().map(String::as_str));
    }
    if named.metrics.is_empty() {
        return Some("it names no metric".to_owned());
    }
    // A label that none of the metrics has.
    let used = named.labels.iter().map(String::as_str).chain(also.iter().copied());
    used.into_iter().find(|label| !labels.contains(label)).map(|label| format!("nothing has a label {label}"))
}

#[test]
fn panels_name_what_there_is() {
    let known = known();
    for dashboard in DASHBOARDS {
        for panel in dashboard.rows.iter().flat_map(|row| row.panels) {
            for query in panel.queries {
                let labels: Vec<&str> =
                    query.legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).collect();
                let wrong = wrong(&query.for_prometheus(), &labels, &known);
                assert_eq!(wrong, None, "{}: {}: {}", dashboard.title, panel.title, query.expr);
            }
        }
    }
}

#[test]
fn alerts_name_what_there_is() {
    let known = known();
    let recorded = RECORDED.iter().map(|recorded| (recorded.name, recorded.expr, &[][..]));
    let alerts = ALERTS.iter().map(|alert| (alert.name, alert.expr, alert.fires.labels));
    for (name, text, labels) in recorded.chain(alerts) {
        let labels: Vec<&str> = labels.iter().map(|(label, _)| *label).collect();
        assert_eq!(wrong(text, &labels, &known), None, "{name}: {text}");
    }
    let cases = ALERTS.iter().flat_map(|alert| alert.fires.series.iter().chain(alert.silent.series));
    for (series, _) in cases {
        assert_eq!(wrong(series, &[], &known), None, "{series}");
    }
}

#[test]
fn what_is_not_there_is_noticed() {
    let known = known();
    let wrong = |text| wrong(text, &[], &known).unwrap_or_default();
    assert!(wrong("rate(kvorum_gone_total[5m])").contains("no metric kvorum_gone_total"));
    assert!(wrong(r#"kvorum_keys{door="http"}"#).contains("no label door"));
    assert!(wrong("sum by (door) (kvorum_keys)").contains("label door"));
    assert!(!wrong("sum by (").is_empty());
    assert_eq!(wrong("sum by (cluster) (kvorum_keys)"), "");
}
