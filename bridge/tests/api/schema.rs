//! The answers of the API against its own description: every answer that any test here gets is held against the schema of
//! its operation. Knows of JSON Schema what the description uses, and takes a field that is not described for a fault.

use serde_json::Value;

/// The description, as it is served.
pub struct Description(Value);

/// What the description says of a request.
pub struct Operation<'a> {
    /// The path with its parameters.
    pub path: &'a str,
    said: &'a Value,
}

impl Description {
    pub fn new(served: Value) -> Self {
        Self(served)
    }

    /// Every operation: path, method.
    pub fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.0["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, said)| (path.as_str(), method.as_str(), said))
        })
    }

    /// The operation of a request: of all paths that fit the one with the most letters of its own.
    pub fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let path = path.split('?').next().unwrap_or_default();
        let method = method.to_lowercase();
        let fitting = self.operations().filter(|(template, of, _)| *of == method && fits(template, path));
        let letters = |template: &str| template.split(['{', '}']).step_by(2).map(str::len).sum::<usize>();
        let best = fitting.max_by_key(|(template, _, _)| letters(template))?;
        Some(Operation { path: best.0, said: best.2 })
    }

    /// What of an answer is not as described.
    pub fn faults(&self, operation: &Operation<'_>, status: u16, kind: &str, body: &Value) -> Vec<String> {
        let responses = &operation.said["responses"];
        let said = responses.get(status.to_string()).or(match status {
            200..400 => None,
            _ => responses.get("default"),
        });
        let Some(said) = said else { return vec![format!("the status {status} is not described")] };
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let Some(content) = said.get("content").and_then(Value::as_object) else {
            return if body.is_null() { Vec::new() } else { vec!["a body that is not described".to_owned()] };
        };
        let Some(content) = content.get(kind) else { return vec![format!("{kind} is not described")] };
        let mut faults = Vec::new();
        if kind == "application/json" || kind.ends_with("+json") {
            self.look(&content["schema"], body, String::new(), &mut faults);
        }
        faults
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(to) => self.resolve(self.0.pointer(to.trim_start_matches('#')).expect(to)),
            None => schema,
        }
    }

    /// Whether a schema says nothing of what is in an object.
    pub fn is_vague(&self, schema: &Value) -> bool {
        let schema = self.resolve(schema);
        let says = ["properties", "allOf", "oneOf", "anyOf", "items", "additionalProperties", "enum"];
        schema["type"] == "object" && says.iter().all(|word| schema.get(word).is_none())
    }

    /// A schema that is several in one, with the fields of all.
    fn merged(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        let Some(parts) = schema["allOf"].as_array() else { return schema.clone() };
        let mut all = serde_json::json!({"type": "object", "properties": {}, "required": []});
        for part in parts.iter().map(|part| self.merged(part)) {
            for (name, field) in part["properties"].as_object().into_iter().flatten() {
                all["properties"][name] = field.clone();
            }
            all["required"]
                .as_array_mut()
                .unwrap()
                .extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        all
    }

    fn look(&self, schema: &Value, value: &Value, at: String, faults: &mut Vec<String>) {
        let schema = &self.merged(schema);
        for (word, wanted) in [("oneOf", 1..=1), ("anyOf", 1..=usize::MAX)] {
            let Some(kinds) = schema[word].as_array() else { continue };
            let tried = kinds.iter().map(|kind| {
                let mut faults = Vec::new();
                self.look(kind, value, at.clone(), &mut faults);
                faults
            });
            let tried: Vec<_> = tried.collect();
            if !wanted.contains(&tried.iter().filter(|faults| faults.is_empty()).count()) {
                faults.push(format!("{at}: fits {word} wrongly: {tried:?}"));
            }
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|name| is_of_type(value, name)) {
            faults.push(format!("{at}: is no {types:?}: {value}"));
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            faults.push(format!("{at}: {value} is none of {}", schema["enum"]));
        }
        for (word, is_beyond) in [("minimum", f64::lt as fn(&f64, &f64) -> bool), ("maximum", f64::gt)] {
            if let (Some(bound), Some(number)) = (schema[word].as_f64(), value.as_f64())
                && is_beyond(&number, &bound)
            {
                faults.push(format!("{at}: {number} is beyond the {word} {bound}"));
            }
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (n, value) in values.iter().enumerate() {
                self.look(items, value, format!("{at}/{n}"), faults);
            }
        }
        if let Some(fields) = value.as_object() {
            self.look_at_fields(schema, fields, &at, faults);
        }
    }

    fn look_at_fields(
        &self,
        schema: &Value,
        fields: &serde_json::Map<String, Value>,
        at: &str,
        faults: &mut Vec<String>,
    ) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                faults.push(format!("{at}: lacks {name}"));
            }
        }
        let Some(known) = schema["properties"].as_object() else {
            if let Some(every) = schema.get("additionalProperties").filter(|every| every.is_object()) {
                fields
                    .iter()
                    .for_each(|(name, value)| self.look(every, value, format!("{at}/{name}"), faults));
            }
            return;
        };
        for (name, value) in fields {
            match known.get(name).or(schema.get("additionalProperties")) {
                Some(schema) => self.look(schema, value, format!("{at}/{name}"), faults),
                None => faults.push(format!("{at}: {name} is not described")),
            }
        }
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        _ => false,
    }
}

/// Whether a path is one of a template's, such as `/v1/apps/{app}/tags/{tag}:add`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits_one = |(template, segment): (&&str, &&str)| match template.split_once('}') {
        Some((_, act)) => segment.strip_suffix(act).is_some_and(|name| !name.is_empty()),
        None => template == segment,
    };
    template.len() == path.len() && template.iter().zip(&path).all(fits_one)
}
