//! Merges the sources of a configuration and takes fields out of it one by one, so that every problem is found, not
//! only the first.

use super::fields::{FIELDS, Field};
use super::problem::{ConfigProblem, Origin};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

/// What a configuration is made from; later sources win: file, environment, flags.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// The path and text of the configuration file, if there is one.
    pub file: Option<(String, String)>,
    /// The process's environment; variables that belong to no field are ignored, because other tools and service
    /// links of container platforms share the prefix.
    pub environment: Vec<(String, String)>,
    /// Flags: a field's path and its value.
    pub flags: Vec<(String, String)>,
}

const ENVIRONMENT: &str = "environment";
const FLAGS: &str = "flags";

/// A source whose values are texts under the paths of fields.
struct Texts {
    name: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut dict = Dict::new();
        for (path, value) in &self.values {
            match path.split_once('.') {
                None => drop(dict.insert((*path).to_owned(), Value::from(value.clone()))),
                Some((table, name)) => {
                    let table = dict.entry(table.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                    if let Value::Dict(_, table) = table {
                        table.insert(name.to_owned(), Value::from(value.clone()));
                    }
                }
            }
        }
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// Takes fields out of merged sources and collects what is wrong with them.
pub(super) struct Reading {
    figment: Figment,
    file: String,
    root: Dict,
    pub(super) problems: Vec<ConfigProblem>,
    /// What every field is, and who says so.
    pub(super) settings: Vec<Setting>,
}

/// What one field is, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The field, such as `tls.ca`.
    pub path: &'static str,
    /// As it was given, or the default; `None` if nobody gave it and it follows from others.
    pub value: Option<String>,
    /// Who says so.
    pub origin: Origin,
}

impl Setting {
    /// The value as anybody may see it who keeps the node: what is secret, or says where a secret is, is left out.
    pub fn shown(&self) -> Option<&str> {
        let is_secret =
            self.path == "tls.key" || self.path.starts_with("encryption.") || self.path.starts_with("auth.bootstrap_");
        match &self.value {
            Some(_) if is_secret => Some("[redacted]"),
            value => value.as_deref(),
        }
    }
}

impl Reading {
    /// Merges the sources.
    pub(super) fn new(sources: &Sources) -> Self {
        let mut figment = Figment::new();
        let mut problems = Vec::new();
        let file = sources.file.as_ref().map_or_else(String::new, |(path, _)| path.clone());
        if let Some((path, text)) = &sources.file {
            let toml = Toml::string(text);
            match toml.data() {
                Ok(_) => figment = figment.merge(toml),
                Err(error) => {
                    problems.push(ConfigProblem::Syntax { path: path.clone(), detail: syntax_detail(&error) });
                }
            }
        }
        let environment = FIELDS.iter().filter_map(|field| {
            let variable = field.variable();
            let (_, value) = sources.environment.iter().find(|(name, _)| *name == variable)?;
            Some((field.path, value.clone()))
        });
        let flags = sources.flags.iter().filter_map(|(path, value)| {
            let field = FIELDS.iter().find(|field| field.path == path)?;
            Some((field.path, value.clone()))
        });
        figment = figment
            .merge(Texts { name: ENVIRONMENT, values: environment.collect() })
            .merge(Texts { name: FLAGS, values: flags.collect() });
        let root = figment.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default();
        let mut reading = Self { figment, file, root, problems, settings: Vec::new() };
        reading.settings = FIELDS.iter().map(|field| reading.setting(field)).collect();
        reading
    }

    fn setting(&self, field: &Field) -> Setting {
        match find(&self.root, field.path) {
            Some(value) => Setting { path: field.path, value: text_of(value), origin: self.origin(value, field.path) },
            None => {
                let value = field.default.map(|text| text.trim_matches('"').to_owned());
                Setting { path: field.path, value, origin: Origin::Default }
            }
        }
    }

    /// Whether the file could be parsed; if not, missing fields say nothing.
    pub(super) fn is_readable(&self) -> bool {
        self.problems.is_empty()
    }

    /// Takes a field that may be absent.
    pub(super) fn optional<T>(&mut self, field: &Field, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.with_origin(field, |text, _| parse(text))
    }

    /// Takes a field that may be absent and whose meaning depends on where it stands.
    pub(super) fn with_origin<T>(
        &mut self,
        field: &Field,
        parse: impl FnOnce(&str, &Origin) -> Option<T>,
    ) -> Option<T> {
        let value = find(&self.root, field.path).cloned();
        let default = || field.default.map(|text| Value::from(text.trim_matches('"')));
        self.parse(value.or_else(default)?, field, field.path.to_owned(), parse)
    }

    /// Takes a field that must be there, if only by its default.
    pub(super) fn required<T>(&mut self, field: &Field, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.required_with_origin(field, |text, _| parse(text))
    }

    /// [`Reading::required`] and [`Reading::with_origin`].
    pub(super) fn required_with_origin<T>(
        &mut self,
        field: &Field,
        parse: impl FnOnce(&str, &Origin) -> Option<T>,
    ) -> Option<T> {
        if find(&self.root, field.path).is_none() && field.default.is_none() {
            self.missing(field.path.to_owned(), field);
            return None;
        }
        self.with_origin(field, parse)
    }

    /// The entries of a list of tables.
    pub(super) fn tables(&mut self, name: &str, allowed: &'static str) -> Vec<Dict> {
        let field = name.to_owned();
        let Some(value) = self.root.get(name).cloned() else {
            self.problems.push(ConfigProblem::Missing { field, allowed });
            return Vec::new();
        };
        let origin = self.origin(&value, name);
        let items = match value {
            Value::Array(_, items) => items,
            value => {
                self.problems.push(ConfigProblem::Invalid { field, value: shown(&value), allowed, origin });
                return Vec::new();
            }
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::Dict(_, table) => tables.push(table),
                value => self.problems.push(ConfigProblem::Invalid {
                    field: format!("{name}[{index}]"),
                    value: shown(&value),
                    allowed,
                    origin: origin.clone(),
                }),
            }
        }
        tables
    }

    /// Takes a field of one of those tables; `place` is the table's name in messages.
    pub(super) fn entry<T>(
        &mut self,
        table: &Dict,
        place: &str,
        field: &Field,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let path = format!("{place}.{}", field.path);
        let default = || field.default.map(|text| Value::from(text.trim_matches('"')));
        match table.get(field.path).cloned().or_else(default) {
            Some(value) => self.parse(value, field, path, |text, _| parse(text)),
            None => {
                self.missing(path, field);
                None
            }
        }
    }

    /// Reports what is in the sources and belongs to no field; `lists` are lists of tables with their fields.
    pub(super) fn reject_unknown(&mut self, lists: &[(&str, &[Field])]) {
        let mut unknown = Vec::new();
        for (name, value) in &self.root {
            let is_table =
                FIELDS.iter().any(|field| field.path.split_once('.').is_some_and(|(table, _)| table == name));
            match value {
                Value::Dict(_, table) if is_table => {
                    let paths = table.keys().map(|key| format!("{name}.{key}"));
                    unknown.extend(paths.filter(|path| !FIELDS.iter().any(|field| field.path == path)));
                }
                Value::Array(_, items) if lists.iter().any(|(list, _)| list == name) => {
                    let fields = lists.iter().find(|(list, _)| list == name).map_or(&[][..], |(_, fields)| fields);
                    for (index, item) in items.iter().enumerate() {
                        let keys = item.as_dict().into_iter().flat_map(|table| table.keys());
                        let keys = keys.filter(|key| !fields.iter().any(|field| field.path == *key));
                        unknown.extend(keys.map(|key| format!("{name}[{index}].{key}")));
                    }
                }
                // A single value where a list belongs is reported by `tables`.
                _ if lists.iter().any(|(list, _)| list == name) => {}
                _ if FIELDS.iter().any(|field| field.path == name) => {}
                _ => unknown.push(name.clone()),
            }
        }
        // Only the file can hold something unknown: the other sources are read by the table of fields.
        let origin = Origin::File(self.file.clone());
        self.problems.extend(unknown.into_iter().map(|field| ConfigProblem::Unknown { field, origin: origin.clone() }));
    }

    /// Reports fields that contradict each other.
    pub(super) fn contradiction(&mut self, field: &str, detail: String) {
        self.problems.push(ConfigProblem::Contradiction { field: field.to_owned(), detail });
    }

    fn missing(&mut self, field: String, of: &Field) {
        self.problems.push(ConfigProblem::Missing { field, allowed: of.allowed });
    }

    fn parse<T>(
        &mut self,
        value: Value,
        field: &Field,
        path: String,
        parse: impl FnOnce(&str, &Origin) -> Option<T>,
    ) -> Option<T> {
        let origin = self.origin(&value, field.path);
        let parsed = text_of(&value).and_then(|text| parse(&text, &origin));
        if parsed.is_none() {
            self.problems.push(ConfigProblem::Invalid {
                field: path,
                value: shown(&value),
                allowed: field.allowed,
                origin,
            });
        }
        parsed
    }

    fn origin(&self, value: &Value, path: &str) -> Origin {
        let field = FIELDS.iter().find(|field| field.path == path);
        match (self.figment.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref()), field) {
            (Some(ENVIRONMENT), Some(field)) => Origin::Environment(field.variable()),
            (Some(FLAGS), Some(field)) => Origin::Flag(field.flag()),
            (Some(_), _) => Origin::File(self.file.clone()),
            (None, _) => Origin::Default,
        }
    }
}

fn find<'a>(root: &'a Dict, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => root.get(path),
        Some((table, name)) => root.get(table)?.as_dict()?.get(name),
    }
}

/// A single value as it would be typed on the command line; `None` for tables and lists.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, value) => Some(value.to_string()),
        Value::Num(_, number) => number
            .to_u128()
            .map(|number| number.to_string())
            .or_else(|| number.to_i128().map(|number| number.to_string()))
            .or_else(|| number.to_f64().map(|number| number.to_string())),
        Value::Char(_, value) => Some(value.to_string()),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

/// A value as an error message shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(..) => "a list".to_owned(),
        other => text_of(other).unwrap_or_else(|| "nothing".to_owned()),
    }
}

/// The parser's message on one line: what is wrong, then where. The picture of the place is left out.
fn syntax_detail(error: &Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let place = lines.first().and_then(|first| first.split_once(" at ")).map(|(_, place)| place.trim_end_matches(':'));
    let picture_end = lines.iter().position(|line| line.starts_with('|') && line.ends_with('^'));
    match (picture_end, place) {
        (Some(end), Some(place)) if end + 1 < lines.len() => format!("{} ({place})", lines[end + 1..].join("; ")),
        _ => lines.join(" "),
    }
}
