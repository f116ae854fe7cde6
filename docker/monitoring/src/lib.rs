//! What people on call see of a cluster: six dashboards and the alerts.
//!
//! Both are tables: [`DASHBOARDS`] and [`ALERTS`]. [`grafana`] writes the one as Grafana reads it, [`rules`] the other as Prometheus and
//! promtool do. `cargo run -p kvorum-monitoring` writes all files; a test compares them with what is committed.

mod alert;
mod alerts;
mod dashboards;
pub mod grafana;
mod panel;
pub mod rules;

pub use alert::{Alert, Case, Recorded, Severity, Silence};
pub use alerts::{ALERTS, RECORDED};
pub use dashboards::DASHBOARDS;
pub use panel::{Dashboard, Level, Panel, Query, Row, Shape, Unit};

use std::path::PathBuf;

/// Where an alert's name is a heading that says what to do.
pub const RUNBOOKS: &str = "docs/TROUBLESHOOTING.md";

/// Every file that is made from the tables: its path from the root of the repository, and its text.
///
/// `runbooks` is the address of the page of [`RUNBOOKS`]: alerts link to their headings there.
pub fn files(runbooks: &str) -> Vec<(PathBuf, String)> {
    let dashboards = DASHBOARDS.iter().map(|dashboard| {
        let path = PathBuf::from(format!("docker/grafana/dashboards/{}.json", dashboard.uid));
        (path, format!("{:#}\n", grafana::dashboard(dashboard)))
    });
    let rules = [
        (PathBuf::from("docker/prometheus/rules.yml"), rules::rules(runbooks)),
        (PathBuf::from("docker/prometheus/rules.test.yml"), rules::tests(runbooks)),
    ];
    dashboards.chain(rules).collect()
}
