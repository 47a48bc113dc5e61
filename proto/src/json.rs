//! One JSON schema for REST and for `opsctl -o json`: a message as a document.
//!
//! Keys are the proto's own names in snake_case; times are RFC 3339 in UTC; enum values are their lower-case names
//! without the prefix; absent fields are left out, empty lists and zeroes are not. A document has `kind` and `version`.

use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, Kind, ReflectMessage as _, Value as Field,
};
use serde_json::{Map, Value};

/// The version of every document of `ops.v1`.
pub const VERSION: &str = "v1";

/// `message` as a document: an object that begins with `kind` and `version`.
///
/// `kind` is one lower-case word for what it is: `service_list`, `operation`.
pub fn document<M: Message + Name>(kind: &str, message: &M) -> Value {
    let mut object = Map::new();
    object.insert("kind".into(), kind.into());
    object.insert("version".into(), VERSION.into());
    if let Value::Object(fields) = value(message) {
        object.extend(fields);
    }
    Value::Object(object)
}

/// `message` as a value, without `kind` and `version`: for what stands inside a document.
pub fn value<M: Message + Name>(message: &M) -> Value {
    let decoded = pool()
        .get_message_by_name(&M::full_name())
        .and_then(|descriptor| DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok());
    // A message of this crate is always in its own pool; `tests/json.rs` holds that.
    decoded.map_or(Value::Null, |message| object(&message))
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(crate::DESCRIPTORS).unwrap_or_default())
}

fn object(message: &DynamicMessage) -> Value {
    if message.descriptor().full_name() == "google.protobuf.Timestamp" {
        return timestamp(message);
    }
    let mut fields = Map::new();
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = json(&message.get_field(&field), &field.kind());
        fields.insert(field.name().to_owned(), value);
    }
    Value::Object(fields)
}

fn timestamp(message: &DynamicMessage) -> Value {
    let part = |name| message.get_field_by_name(name).map(|value| value.into_owned());
    let seconds = part("seconds").and_then(|value| value.as_i64()).unwrap_or_default();
    let nanos = part("nanos").and_then(|value| value.as_i32()).unwrap_or_default();
    jiff::Timestamp::new(seconds, nanos)
        .and_then(|at| at.round(jiff::Unit::Millisecond))
        .map_or(Value::Null, |at| at.to_string().into())
}

fn json(value: &Field, kind: &Kind) -> Value {
    match value {
        Field::Bool(value) => (*value).into(),
        Field::I32(value) => (*value).into(),
        Field::I64(value) => (*value).into(),
        Field::U32(value) => (*value).into(),
        Field::U64(value) => (*value).into(),
        Field::F32(value) => f64::from(*value).into(),
        Field::F64(value) => (*value).into(),
        Field::String(value) => value.clone().into(),
        Field::Bytes(value) => String::from_utf8_lossy(value).into_owned().into(),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(of) => enum_name(of, *number).into(),
            _ => (*number).into(),
        },
        Field::Message(value) => object(value),
        Field::List(values) => values.iter().map(|value| json(value, kind)).collect(),
        Field::Map(values) => values
            .iter()
            .map(|(key, value)| {
                let key = match key {
                    prost_reflect::MapKey::String(key) => key.clone(),
                    other => format!("{other:?}"),
                };
                let kind = match kind {
                    Kind::Message(entry) => entry.map_entry_value_field().kind(),
                    other => other.clone(),
                };
                (key, json(value, &kind))
            })
            .collect::<Map<String, Value>>()
            .into(),
    }
}

/// `SERVICE_STATE_RUNNING` is `running`; the reasons of errors keep their capitals, as people see them.
fn enum_name(of: &EnumDescriptor, number: i32) -> String {
    let Some(value) = of.get_value(number) else { return number.to_string() };
    let prefix: String = of.name().chars().enumerate().fold(String::new(), |mut text, (index, letter)| {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
        text
    });
    let name = value.name();
    let name = name.strip_prefix(&prefix).and_then(|name| name.strip_prefix('_')).unwrap_or(name);
    if of.name() == "ErrorReason" { name.to_owned() } else { name.to_ascii_lowercase() }
}
