//! Finds members of a request that no reader of this version uses: they are ignored, and usually misspelt.

use std::cell::RefCell;

use build_image_plugin_api::{
    Step,
    document::{
        CheckRequest, DiscardRequest, DiskRequest, InventoryRequest, LocateRequest, ManageRequest,
        RegisterRequest, UploadRequest,
    },
};
use serde::{
    Deserialize, Deserializer,
    de::{
        IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value};

/// A member that is not known at its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Path of the member: `build.image_nam`.
    pub(super) path: String,
    /// Its name, the last part of the path.
    pub(super) name: String,
    /// The names of the members that are known at this place.
    pub(super) known: &'static [&'static str],
}

/// Returns the members of a request of this step that are not known.
pub(super) fn unknown(step: Step, request: &Map<String, Value>) -> Vec<Unknown> {
    let request = Value::Object(request.clone());
    match step {
        Step::Check => read::<CheckRequest>(&request),
        Step::CreateDisk => read::<DiskRequest>(&request),
        Step::Upload => read::<UploadRequest>(&request),
        Step::Register => read::<RegisterRequest>(&request),
        Step::Discard => read::<DiscardRequest>(&request),
        Step::Inventory => read::<InventoryRequest>(&request),
        Step::Manage => read::<ManageRequest>(&request),
        Step::Locate => read::<LocateRequest>(&request),
        _ => Vec::new(),
    }
}

fn read<T: for<'de> Deserialize<'de>>(document: &Value) -> Vec<Unknown> {
    let found = RefCell::new(Vec::new());
    // Values of another type are the provider's to refuse.
    let _ = T::deserialize(Place { value: document, path: String::new(), found: &found });
    found.into_inner()
}

/// A value of the document and its place.
struct Place<'a> {
    value: &'a Value,
    path: String,
    found: &'a RefCell<Vec<Unknown>>,
}

impl<'a> Place<'a> {
    fn member(&self, name: &str, value: &'a Value) -> Self {
        let path = match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        Self { value, path, found: self.found }
    }
}

impl<'de> IntoDeserializer<'de, Error> for Place<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Place<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(members) => {
                let places =
                    members.iter().map(|(name, value)| (name.as_str(), self.member(name, value)));
                visitor.visit_map(MapDeserializer::new(places))
            }
            Value::Array(items) => {
                let places =
                    items.iter().map(|value| Place { value, path: self.path.clone(), ..self });
                visitor.visit_seq(SeqDeserializer::new(places))
            }
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        for name in self.value.as_object().into_iter().flat_map(Map::keys) {
            if !known.contains(&name.as_str()) {
                let Place { path, .. } = self.member(name, self.value);
                self.found.borrow_mut().push(Unknown { path, name: name.clone(), known });
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_no_reader_uses_are_found_at_every_depth() {
        let request = json!({
            "build": {"image_nam": "web", "tags": {"any": "key"}, "guest": {"osname": "x", "os": null}},
            "disk": {"spec": {"formt": "raw"}, "length": 5, "stays": true},
            "stays": false,
        });
        let Value::Object(request) = request else { unreachable!() };
        let found = |step| -> Vec<String> {
            let mut paths: Vec<String> =
                unknown(step, &request).into_iter().map(|one| one.path).collect();
            paths.sort();
            paths
        };
        assert_eq!(
            found(Step::Upload),
            ["build.guest.osname", "build.image_nam", "disk.spec.formt", "disk.stays"]
        );
        // What another step has is not known to this one.
        assert_eq!(
            found(Step::Register),
            ["build.guest.osname", "build.image_nam", "disk", "stays"]
        );
        let one = unknown(Step::Upload, &request).into_iter().find(|one| one.name == "image_nam");
        assert!(one.unwrap().known.contains(&"image_name"));
    }

    #[test]
    fn lists_are_read_and_values_of_other_types_are_left_to_the_provider() {
        let read = |step, request: Value| {
            let Value::Object(request) = request else { unreachable!() };
            unknown(step, &request).into_iter().map(|one| one.path).collect::<Vec<_>>()
        };
        let resources =
            json!({"resources": [{"kind": "file"}, {"knid": "file"}], "reason": "done"});
        assert_eq!(read(Step::Discard, resources), ["resources.knid"]);
        assert!(read(Step::Discard, json!({"resources": 7})).is_empty());
        assert!(read(Step::Check, json!({"build": null, "online": "yes"})).is_empty());
    }
}
