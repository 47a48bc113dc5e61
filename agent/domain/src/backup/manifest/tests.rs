use proptest::prelude::*;

use super::*;
use crate::ports::database::ServerKind;

pub(in crate::backup) fn sample() -> Manifest {
    let at: Timestamp = "2026-11-24T01:30:00Z".parse().unwrap();
    let segment = |offset, bytes, stored, documents| Segment {
        offset,
        bytes,
        stored,
        documents,
        hash: "ab".repeat(32),
    };
    Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        id: BackupId::parse("20261124T0130Z-m3").unwrap(),
        agent: Maker { id: "prod-1".to_owned(), version: "0.1.0".to_owned() },
        operation: "op-7k2p1c0000".to_owned(),
        database: "auction".to_owned(),
        server: Capabilities {
            kind: ServerKind::Ferretdb,
            version: "1.24.2".to_owned(),
            topology: "standalone".to_owned(),
            rename_dotted: false,
            index_options: false,
        },
        consistency: "per-collection".to_owned(),
        codec: "zstd".to_owned(),
        purpose: Purpose::Manual,
        tag: "pre-deploy".to_owned(),
        state: Completeness::Ok,
        started_at: at,
        finished_at: at,
        took_ms: 12,
        collections: vec![CollectionRecord {
            name: "bids".to_owned(),
            uuid: String::new(),
            options: "0500000000".to_owned(),
            indexes: vec![IndexRecord { name: "_id_".to_owned(), spec: "0500000000".to_owned() }],
            documents: 3,
            bytes: 60,
            stored: 50,
            crc64: "0".repeat(16),
            digest: "0".repeat(32),
            read_at: at,
            file: "c00001.zst".to_owned(),
            segments: vec![segment(0, 40, 30, 2), segment(30, 20, 20, 1)],
        }],
        missing: Vec::new(),
        warnings: Vec::new(),
        previous: None,
    }
}

#[test]
fn what_is_written_is_read_again() {
    let manifest = sample();
    assert_eq!(Manifest::parse(&manifest.encode(), &manifest.id), Ok(manifest));
}

#[test]
fn a_later_format_is_named_and_not_guessed_at() {
    let mut value: serde_json::Value = serde_json::from_slice(&sample().encode()).unwrap();
    value["version"] = 2.into();
    value["something_new"] = true.into();
    let bytes = serde_json::to_vec(&value).unwrap();
    assert_eq!(Manifest::parse(&bytes, &sample().id), Err(ManifestError::Version(2)));
    value["format"] = "restic".into();
    let bytes = serde_json::to_vec(&value).unwrap();
    assert_eq!(Manifest::parse(&bytes, &sample().id), Err(ManifestError::Foreign));
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 14] = [
        ("another id", |m| m.id = BackupId::parse("20261124T0130Z-m4").unwrap()),
        ("no collections", |m| m.collections.clear()),
        ("a document less", |m| m.collections[0].documents = 2),
        ("a byte less", |m| m.collections[0].bytes -= 1),
        ("a hole", |m| m.collections[0].segments[1].offset += 1),
        ("another file", |m| m.collections[0].file = "../c00001.zst".to_owned()),
        ("twice", |m| m.collections.push(m.collections[0].clone())),
        ("a huge segment", |m| m.collections[0].segments[0].bytes = u64::MAX),
        ("a bomb", |m| {
            m.collections[0].segments[0].bytes = SEGMENT_MAX + 1;
            m.collections[0].bytes = SEGMENT_MAX + 21;
        }),
        ("a short hash", |m| {
            m.collections[0].segments[0].hash.pop();
        }),
        ("options that are no document", |m| m.collections[0].options = "ff".to_owned()),
        ("a name with a zero", |m| m.collections[0].name.push('\0')),
        ("a hostile database", |m| m.database = "a/../b".to_owned()),
        ("missing, and ok", |m| m.missing.push("users".to_owned())),
    ];
    for (what, change) in changes {
        let mut manifest = sample();
        let id = manifest.id.clone();
        change(&mut manifest);
        assert!(Manifest::parse(&manifest.encode(), &id).is_err(), "{what}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::parse(&bytes, &sample().id).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused_or_read_as_a_sound_manifest(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = sample().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(manifest) = Manifest::parse(&bytes, &sample().id) {
            prop_assert!(manifest.check(&sample().id).is_ok());
        }
    }

    #[test]
    fn hex_goes_both_ways(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
    }
}
