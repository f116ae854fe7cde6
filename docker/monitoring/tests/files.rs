//! What is committed is what the tables say, and it hangs together.

use kvorum_monitoring::{ALERTS, DASHBOARDS, RUNBOOKS, files, grafana};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fs, iter};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_committed_files_are_those_of_the_tables() {
    let expected = files(RUNBOOKS);
    for (path, text) in &expected {
        let committed = read(&path.to_string_lossy());
        // The order of fields depends on how serde_json was built, and means nothing.
        let is_same = match (serde_json::from_str::<Value>(&committed), serde_json::from_str::<Value>(text)) {
            (Ok(committed), Ok(made)) => committed == made,
            _ => committed == *text,
        };
        assert!(is_same, "{} is not what the tables say: run `cargo run -p kvorum-monitoring`", path.display());
    }
    // What nothing writes any more would stay in Grafana.
    let there = fs::read_dir(root().join("docker/grafana/dashboards")).expect("dashboards are there");
    let there: BTreeSet<_> = there
        .map(|entry| PathBuf::from("docker/grafana/dashboards").join(entry.expect("readable").file_name()))
        .collect();
    let made =
        expected.into_iter().map(|(path, _)| path).filter(|path| path.extension().is_some_and(|of| of == "json"));
    assert_eq!(there, made.collect());
}

#[test]
fn every_alert_has_its_section_of_the_runbook() {
    let page = read(RUNBOOKS);
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### Kvorum")).collect();
    let names: Vec<&str> = ALERTS.iter().filter_map(|alert| alert.name.strip_prefix("Kvorum")).collect();
    assert_eq!(names, headings, "an alert's name is a heading, in the order of the table");
    for alert in ALERTS {
        let section = page.split(&format!("### {}\n", alert.name)).nth(1).expect("a section");
        let section = section.split("\n#").next().expect("a text");
        // What it means, what to type, why, and what to do.
        for part in ["**Symptom.**", "**Look.**", "**Cause.**", "**Remedy.**"] {
            assert!(section.contains(part), "{}: no {part}", alert.name);
        }
        assert!(section.contains('`'), "{}: no command", alert.name);
    }
}

#[test]
fn alerts_are_told_apart_and_say_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in ALERTS {
        assert!(names.insert(alert.name) && alert.name.starts_with("Kvorum"), "{}", alert.name);
        for text in [alert.summary, alert.description] {
            let has_value = text.contains("{value}");
            assert!(!has_value || !alert.written.is_empty() && !alert.fires.value.is_empty(), "{}: {text}", alert.name);
            assert!(!alert.written_out(text).contains(['{', '}']), "{}: {text}", alert.name);
        }
        assert!(!alert.summary.ends_with('.') && alert.description.ends_with('.'), "{}", alert.name);
    }
}

/// The fields that Grafana 11 looks for, of each panel.
fn check_panel(of: &str, panel: &Value) {
    let kind = panel["type"].as_str().expect("a type");
    assert!(["row", "stat", "timeseries"].contains(&kind), "{of}: {kind}");
    let place = &panel["gridPos"];
    let [x, width, height] = ["x", "w", "h"].map(|name| place[name].as_u64().expect("a place"));
    assert!(x + width <= 24 && width >= 3 && height >= 1, "{of}: {place}");
    if kind == "row" {
        return;
    }
    let about = panel["description"].as_str().expect("a description");
    assert!(about.len() >= 20 && about.ends_with('.'), "{of}: a panel says what it is for");
    assert_eq!(panel["datasource"]["uid"], "${datasource}", "{of}");
    assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{of}: no unit");
    let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().expect("thresholds");
    assert!(steps[0]["value"].is_null() && steps[0]["color"] == "green", "{of}");
    let values: Vec<f64> = steps[1..].iter().map(|step| step["value"].as_f64().expect("a number")).collect();
    assert!(values.is_sorted_by(|a, b| a < b), "{of}: thresholds rise");
    let targets = panel["targets"].as_array().expect("queries");
    let names: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().expect("a name")).collect();
    assert!(!targets.is_empty() && names.len() == targets.len(), "{of}");
    for target in targets {
        let (expr, legend) = (target["expr"].as_str().expect("a query"), target["legendFormat"].as_str());
        assert!(legend.is_some_and(|legend| !legend.is_empty()), "{of}: no legend");
        assert!(!expr.contains("$on") && !expr.contains("$span"), "{of}: {expr}");
        // A fixed span shows nothing where scrapes are rare, and lies where a picture is long.
        assert!(!expr.contains("rate(") || expr.contains("[$__rate_interval]"), "{of}: {expr}");
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{of}");
    }
    if kind == "timeseries" {
        assert_eq!(panel["options"]["legend"]["showLegend"], true, "{of}");
    }
}

#[test]
fn dashboards_are_as_grafana_reads_them() {
    let mut addresses = BTreeSet::new();
    assert_eq!(DASHBOARDS.len(), 6);
    for dashboard in DASHBOARDS {
        assert!(addresses.insert(dashboard.uid) && dashboard.uid.len() <= 40, "{}", dashboard.uid);
        let made = grafana::dashboard(dashboard);
        assert_eq!(made["schemaVersion"], 39);
        let variables = made["templating"]["list"].as_array().expect("variables");
        let variables: Vec<&str> =
            variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
        assert_eq!(variables, ["datasource", "cluster", "instance"]);
        let (mut ids, mut cells, mut titles) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in made["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            let of = format!("{}: {title}", dashboard.title);
            check_panel(&of, panel);
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{of}");
            assert!(panel["type"] == "row" || titles.insert(title), "{of}: two panels of one title");
            let [x, y, width, height] =
                ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().expect("a place"));
            for (x, y) in (y..y + height).flat_map(|y| (x..x + width).zip(iter::repeat(y))) {
                assert!(cells.insert((x, y)), "{of} lies on another panel");
            }
        }
        assert!(titles.len() >= 8, "{}", dashboard.title);
    }
}

#[test]
fn overview_has_the_four_golden_signals() {
    let rows: Vec<&str> = DASHBOARDS[0].rows.iter().map(|row| row.title).collect();
    assert_eq!(rows, ["Now", "Traffic", "Latency", "Errors", "Saturation"]);
}
