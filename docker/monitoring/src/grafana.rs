//! Dashboards as Grafana 11 reads them.

use crate::panel::{Dashboard, Level, Panel, Row, Shape};
use serde_json::{Value, json};

/// Grafana 11's version of the form of a dashboard.
pub const SCHEMA_VERSION: u32 = 39;
/// Columns of a dashboard.
const COLUMNS: usize = 24;
/// Rows that a figure takes, and a picture.
const FIGURE_HEIGHT: usize = 5;
const PICTURE_HEIGHT: usize = 8;
/// Figures that fit in one line.
const FIGURES_MAX: usize = 8;

/// A dashboard. `/` of a Grafana takes it by import, or a provider finds it as a file.
pub fn dashboard(dashboard: &Dashboard) -> Value {
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["kvorum"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [{
            "name": "Alerts",
            "datasource": datasource(),
            "enable": true,
            "iconColor": "red",
            "expr": r#"ALERTS{alertstate="firing",alertname=~"Kvorum.+",cluster=~"$cluster"}"#,
            "titleFormat": "{{alertname}}",
            "textFormat": "{{instance}}",
            "step": "15s",
        }]},
        "links": [{
            "type": "dashboards", "title": "Kvorum", "tags": ["kvorum"], "asDropdown": false, "includeVars": true, "keepTime": true,
        }],
        "templating": {"list": [
            {
                "name": "datasource", "type": "datasource", "label": "Data source", "query": "prometheus", "hide": 0,
                "refresh": 1, "multi": false, "includeAll": false,
            },
            chosen("cluster", "Cluster", "label_values(kvorum_build_info, cluster)"),
            chosen("instance", "Node", r#"label_values(kvorum_build_info{cluster=~"$cluster"}, instance)"#),
        ]},
        "panels": panels(dashboard.rows),
    })
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// A variable that a reader chooses; all of them unless he does.
fn chosen(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "type": "query", "label": label, "datasource": datasource(), "query": {"query": query, "refId": name},
        "definition": query, "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+", "hide": 0,
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
    })
}

fn panels(rows: &[Row]) -> Vec<Value> {
    let (mut panels, mut y): (Vec<Value>, usize) = (Vec::new(), 0);
    for row in rows {
        let id = panels.len() + 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }));
        y += 1;
        let (figures, pictures): (Vec<&Panel>, Vec<&Panel>) =
            row.panels.iter().partition(|panel| panel.shape == Shape::Figure);
        assert!(figures.len() <= FIGURES_MAX, "{}: the figures of a row are one line", row.title);
        // Three pictures a line, unless two leave no hole.
        let a_line = if pictures.len().is_multiple_of(3) { 3 } else { 2 };
        for (of_kind, a_line, height) in
            [(figures.as_slice(), figures.len(), FIGURE_HEIGHT), (&pictures, a_line, PICTURE_HEIGHT)]
        {
            for line in of_kind.chunks(a_line.max(1)) {
                let width = COLUMNS / line.len();
                for (at, panel) in line.iter().enumerate() {
                    let place = json!({"x": at * width, "y": y, "w": width, "h": height});
                    panels.push(draw(panel, panels.len() + 1, place));
                }
                y += height;
            }
        }
    }
    panels
}

fn draw(panel: &Panel, id: usize, place: Value) -> Value {
    let targets = panel.queries.iter().zip('A'..).map(|(query, name)| {
        json!({
            "refId": name, "datasource": datasource(), "editorMode": "code", "expr": query.for_grafana(),
            "legendFormat": query.legend, "range": panel.shape != Shape::Figure, "instant": panel.shape == Shape::Figure,
        })
    });
    let targets: Vec<Value> = targets.collect();
    let first = json!({"color": Level::Well.colour(), "value": null});
    let steps = panel.levels.iter().map(|(from, level)| json!({"color": level.colour(), "value": from}));
    let steps: Vec<Value> = std::iter::once(first).chain(steps).collect();
    let drawn = json!({
        "drawStyle": "line", "lineWidth": 1, "showPoints": "never", "spanNulls": false, "axisSoftMin": 0,
        "fillOpacity": if panel.shape == Shape::Stacked { 25 } else { 5 },
        "stacking": {"mode": if panel.shape == Shape::Stacked { "normal" } else { "none" }, "group": "A"},
        "thresholdsStyle": {"mode": if panel.levels.is_empty() { "off" } else { "dashed" }},
    });
    let is_figure = panel.shape == Shape::Figure;
    let options = if is_figure {
        json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false}, "orientation": "auto", "justifyMode": "auto",
            "textMode": "auto", "graphMode": "none", "colorMode": if panel.levels.is_empty() { "none" } else { "background" },
        })
    } else {
        json!({
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        })
    };
    json!({
        "id": id,
        "type": if is_figure { "stat" } else { "timeseries" },
        "title": panel.title,
        "description": panel.about,
        "datasource": datasource(),
        "gridPos": place,
        "targets": targets,
        "options": options,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit.grafana(),
                "color": {"mode": if is_figure { "thresholds" } else { "palette-classic" }},
                "custom": if is_figure { json!({}) } else { drawn },
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
    })
}
