//! What the table of dashboards is made of.

/// A dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Dashboard {
    /// Its address, which stays for ever: people keep links.
    pub uid: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The question that it answers.
    pub about: &'static str,
    /// From what is looked at first to what is looked at last.
    pub rows: &'static [Row],
}

/// Panels under one heading.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The heading.
    pub title: &'static str,
    /// Figures come first, in one line; pictures after them, two or three a line.
    pub panels: &'static [Panel],
}

/// One figure or picture.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its heading.
    pub title: &'static str,
    /// What a person on call sees in it, and does about it.
    pub about: &'static str,
    /// How it is drawn.
    pub shape: Shape,
    /// What its values are.
    pub unit: Unit,
    /// What it shows.
    pub queries: &'static [Query],
    /// From which values on it is how bad; rising. Below the first all is well.
    pub levels: &'static [(f64, Level)],
}

/// What a panel asks Prometheus.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// What a series is called, with `{{label}}` for the value of a label.
    pub legend: &'static str,
    /// PromQL, with [`Query::ON`] for the nodes that were chosen, and [`Query::SPAN`] for a span that suits the picture.
    pub expr: &'static str,
}

/// How a panel is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One large figure per series.
    Figure,
    /// A line per series.
    Lines,
    /// Lines on top of each other: parts of a whole.
    Stacked,
}

/// What values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Things per second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// A part of a whole, 0 to 1.
    Share,
    /// 1 for yes.
    YesNo,
}

/// How bad a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// As it should be.
    Well,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Query {
    /// Stands in an expression for the label matchers of the cluster and the nodes that were chosen.
    pub const ON: &str = "$on";
    /// Stands in an expression for the span of a rate.
    pub const SPAN: &str = "$span";

    /// The expression as Grafana reads it.
    pub fn for_grafana(&self) -> String {
        let on = r#"cluster=~"$cluster",instance=~"$instance""#;
        self.expr.replace(Self::ON, on).replace(Self::SPAN, "$__rate_interval")
    }

    /// The expression as Prometheus reads it: of all nodes, with spans of a minute.
    pub fn for_prometheus(&self) -> String {
        let on = r#"cluster=~".+",instance=~".+""#;
        self.expr.replace(Self::ON, on).replace(Self::SPAN, "1m")
    }
}

impl Unit {
    /// Grafana's name of it.
    pub fn grafana(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::PerSecond => "ops",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "Bps",
            Self::Share => "percentunit",
            Self::YesNo => "bool_yes_no",
        }
    }
}

impl Level {
    /// Grafana's colour of it.
    pub fn colour(self) -> &'static str {
        match self {
            Self::Well => "green",
            Self::Warning => "orange",
            Self::Critical => "red",
        }
    }
}

/// A query, with the name of its series.
pub(crate) const fn q(legend: &'static str, expr: &'static str) -> Query {
    Query { legend, expr }
}

/// A large figure.
pub(crate) const fn figure(
    title: &'static str,
    unit: Unit,
    queries: &'static [Query],
    levels: &'static [(f64, Level)],
    about: &'static str,
) -> Panel {
    Panel { title, about, shape: Shape::Figure, unit, queries, levels }
}

/// Lines.
pub(crate) const fn lines(title: &'static str, unit: Unit, queries: &'static [Query], about: &'static str) -> Panel {
    Panel { title, about, shape: Shape::Lines, unit, queries, levels: &[] }
}

/// Lines on top of each other.
pub(crate) const fn stacked(title: &'static str, unit: Unit, queries: &'static [Query], about: &'static str) -> Panel {
    Panel { title, about, shape: Shape::Stacked, unit, queries, levels: &[] }
}

impl Panel {
    /// With lines where it gets bad.
    pub(crate) const fn bad_from(self, levels: &'static [(f64, Level)]) -> Self {
        Self { levels, ..self }
    }
}
