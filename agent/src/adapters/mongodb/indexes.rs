//! What a server takes of a collection's indexes and options, and what it would lose.

use bson::{Bson, Document};
use ops_domain::ports::database::{Capabilities, Collection};

/// What FerretDB's createIndexes takes; `sparse` it takes and drops.
const INDEX_FIELDS: [&str; 3] = ["key", "name", "unique"];
/// What FerretDB's create takes.
const OPTION_FIELDS: [&str; 3] = ["capped", "size", "max"];
/// What is in a listed index, and is no option of it: its version, and in old servers its namespace.
const NOT_OPTIONS: [&str; 3] = ["v", "ns", "background"];

/// An index as this server takes it (`None`: not at all), and what is lost on the way.
pub(super) fn fit_index(server: &Capabilities, listed: &Document) -> (Option<Document>, Vec<String>) {
    let name = listed.get_str("name").unwrap_or_default();
    let mut spec = listed.clone();
    spec.remove("ns");
    if server.index_options {
        return (Some(spec), Vec::new());
    }
    let key = match listed.get_document("key") {
        Ok(key) => plain_key(key),
        Err(_) => None,
    };
    let Some(key) = key else {
        return (None, vec![format!("index {name}: only ascending and descending keys")]);
    };
    let lost = listed
        .keys()
        .map(String::as_str)
        .filter(|field| !INDEX_FIELDS.contains(field) && !NOT_OPTIONS.contains(field))
        .map(|field| format!("index {name}: {field}"))
        .collect();
    let mut spec = Document::new();
    spec.insert("key", key);
    spec.insert("name", name);
    if listed.get_bool("unique").is_ok_and(|unique| unique) {
        spec.insert("unique", true);
    }
    (Some(spec), lost)
}

/// A collection's options as this server takes them, and what is lost on the way.
pub(super) fn fit_options(server: &Capabilities, listed: &Document) -> (Document, Vec<String>) {
    if server.index_options {
        return (listed.clone(), Vec::new());
    }
    let (kept, lost): (Vec<_>, Vec<_>) =
        listed.clone().into_iter().partition(|(field, _)| OPTION_FIELDS.contains(&field.as_str()));
    let lost = lost.into_iter().map(|(field, _)| format!("option {field}")).collect();
    (kept.into_iter().collect(), lost)
}

/// All that a collection would lose, each with its name: `bids: index amount_1: sparse`.
pub(super) fn losses(server: &Capabilities, collection: &Collection) -> Vec<String> {
    let parse = |bytes: &[u8]| bson::deserialize_from_slice::<Document>(bytes);
    let mut lost = match parse(&collection.options) {
        Ok(options) => fit_options(server, &options).1,
        Err(_) => vec!["its options cannot be read".to_owned()],
    };
    for index in collection.indexes.iter().filter(|index| index.name != "_id_") {
        match parse(&index.spec) {
            Ok(spec) => lost.extend(fit_index(server, &spec).1),
            Err(_) => lost.push(format!("index {}: it cannot be read", index.name)),
        }
    }
    lost.into_iter().map(|text| format!("{}: {text}", collection.name)).collect()
}

/// The key with `1` and `-1` as whole numbers; `None` when it is of another kind.
fn plain_key(key: &Document) -> Option<Document> {
    key.iter()
        .map(|(field, order)| {
            let order = match order {
                Bson::Int32(order) => f64::from(*order),
                Bson::Int64(order) => *order as f64,
                Bson::Double(order) => *order,
                _ => return None,
            };
            let order = if order > 0.0 { 1 } else { -1 };
            Some((field.clone(), Bson::Int32(order)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use ops_domain::ports::database::ServerKind;

    use super::*;

    fn server(whole: bool) -> Capabilities {
        Capabilities {
            kind: if whole { ServerKind::Mongod } else { ServerKind::Ferretdb },
            version: String::new(),
            topology: String::new(),
            rename_dotted: whole,
            index_options: whole,
        }
    }

    #[test]
    fn a_mongod_keeps_every_option_and_ferretdb_tells_what_it_drops() {
        let listed = doc! { "v": 2, "key": { "at": 1.0, "who": -1i64 }, "name": "at_1", "unique": true,
        "sparse": true, "expireAfterSeconds": 60, "ns": "a.b" };
        let (spec, lost) = fit_index(&server(true), &listed);
        assert!(lost.is_empty());
        assert_eq!(spec.unwrap().get_i32("expireAfterSeconds").unwrap(), 60);

        let (spec, lost) = fit_index(&server(false), &listed);
        assert_eq!(spec.unwrap(), doc! { "key": { "at": 1, "who": -1 }, "name": "at_1", "unique": true });
        assert_eq!(lost, ["index at_1: sparse", "index at_1: expireAfterSeconds"]);

        let (spec, lost) = fit_index(&server(false), &doc! { "key": { "t": "text" }, "name": "t_text" });
        assert!(spec.is_none());
        assert_eq!(lost, ["index t_text: only ascending and descending keys"]);

        let (options, lost) =
            fit_options(&server(false), &doc! { "capped": true, "size": 5, "validator": {} });
        assert_eq!(
            (options, lost),
            (doc! { "capped": true, "size": 5 }, vec!["option validator".to_owned()])
        );
    }
}
