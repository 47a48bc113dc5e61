//! What stands in each collection.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::numbers::Numbers;

/// The sports of the platform.
pub(crate) const SPORTS: &[&str] = &["football", "cricket", "tennis", "rugby", "basketball"];

const USERS: i32 = 150;
const LEAGUES: i32 = 40;
const AUCTIONS: i32 = 250;
const BIDS: i32 = 20_000;
const MAGIC_LINKS: i32 = 600;

/// 2025-11-01T00:00:00Z: a fixed day, so that two seedings are equal to the byte.
const EPOCH_MS: i64 = 1_761_955_200_000;
const MINUTE_MS: i64 = 60_000;

/// One collection as it is after seeding.
#[derive(Debug)]
pub(super) struct Seeded {
    pub(super) name: &'static str,
    pub(super) documents: Vec<Document>,
    pub(super) indexes: Vec<Index>,
}

/// A secondary index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) keys: &'static [(&'static str, i32)],
    pub(super) unique: bool,
}

/// Every collection of the platform.
pub(super) fn all() -> [Seeded; 5] {
    [users(), leagues(), auctions(), bids(), magic_links()]
}

fn users() -> Seeded {
    let mut numbers = Numbers::new(1);
    let user = |n| {
        doc! {
            "_id": id(1, n),
            "email": format!("user{n:03}@example.com"),
            "name": format!("{} {}", pick(&mut numbers, FIRST_NAMES), pick(&mut numbers, LAST_NAMES)),
            "budget": f64::from(numbers.below(100_000)) / 4.0,
            "roles": if n % 50 == 0 { vec!["member", "commissioner"] } else { vec!["member"] },
            "verified": n % 7 != 0,
            "last_seen": if n % 11 == 0 { Bson::Null } else { Bson::DateTime(minutes(n * 13)) },
            "settings": { "theme": pick(&mut numbers, &["dark", "light"]), "toasts": n % 3 == 0 },
        }
    };
    Seeded {
        name: "users",
        documents: (0..USERS).map(user).collect(),
        indexes: vec![Index { name: "email_1", keys: &[("email", 1)], unique: true }],
    }
}

fn leagues() -> Seeded {
    let mut numbers = Numbers::new(2);
    let league = |n| {
        let members = 4 + n % 9;
        doc! {
            "_id": id(2, n),
            "name": format!("{} league {n:02}", pick(&mut numbers, LAST_NAMES)),
            "sport": pick(&mut numbers, SPORTS),
            "commissioner": id(1, n * 3 % USERS),
            "members": (0..members).map(|m| id(1, (n * 7 + m * 11) % USERS)).collect::<Vec<_>>(),
            "created_at": minutes(n),
        }
    };
    Seeded {
        name: "leagues",
        documents: (0..LEAGUES).map(league).collect(),
        indexes: vec![Index { name: "sport_1_name_1", keys: &[("sport", 1), ("name", 1)], unique: false }],
    }
}

fn auctions() -> Seeded {
    let mut numbers = Numbers::new(3);
    let auction = |n| {
        doc! {
            "_id": id(3, n),
            "league": id(2, n % LEAGUES),
            "player": format!("{} {}", pick(&mut numbers, FIRST_NAMES), pick(&mut numbers, LAST_NAMES)),
            "status": pick(&mut numbers, &["open", "closed", "settled"]),
            "reserve": numbers.below(5_000),
            "highest_bid": i64::from(numbers.below(90_000)) * 100,
            "starts_at": minutes(n * 30),
        }
    };
    Seeded {
        name: "auctions",
        documents: (0..AUCTIONS).map(auction).collect(),
        indexes: vec![Index {
            name: "league_1_status_1",
            keys: &[("league", 1), ("status", 1)],
            unique: false,
        }],
    }
}

fn bids() -> Seeded {
    let mut numbers = Numbers::new(4);
    let bid = |n| {
        doc! {
            "_id": id(4, n),
            "auction": numbers.below(AUCTIONS),
            "user": id(1, numbers.below(USERS)),
            "amount": i64::from(numbers.below(90_000)) * 100,
            "status": pick(&mut numbers, &["placed", "outbid", "won"]),
            "note": if n % 5 == 0 { "pour l’équipe ⚽" } else { "" },
            "created_at": minutes(n),
        }
    };
    Seeded {
        name: "bids",
        documents: (0..BIDS).map(bid).collect(),
        indexes: vec![
            Index {
                name: "auction_1_created_at_-1",
                keys: &[("auction", 1), ("created_at", -1)],
                unique: false,
            },
            Index { name: "user_1", keys: &[("user", 1)], unique: false },
        ],
    }
}

fn magic_links() -> Seeded {
    let mut numbers = Numbers::new(5);
    let link = |n| {
        doc! {
            "_id": id(5, n),
            "email": format!("user{:03}@example.com", n % USERS),
            "token": format!("{:016x}{:016x}", numbers.next(), numbers.next()),
            "used": n % 3 == 0,
            "expires_at": minutes(n * 10),
        }
    };
    Seeded {
        name: "magic_links",
        documents: (0..MAGIC_LINKS).map(link).collect(),
        indexes: vec![Index { name: "token_1", keys: &[("token", 1)], unique: true }],
    }
}

const FIRST_NAMES: &[&str] = &["Ada", "Bo", "Chidi", "Dana", "Élise", "Farid", "Gita", "Hugo", "Ines", "Jun"];
const LAST_NAMES: &[&str] = &["Abara", "Brandt", "Costa", "Dubois", "Eriksen", "Fujita", "Gomez", "Haddad"];

fn pick(numbers: &mut Numbers, choices: &[&'static str]) -> &'static str {
    numbers.pick(choices).unwrap_or_default()
}

/// Twelve bytes: the kind of document and its number.
fn id(kind: u8, number: i32) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[0] = 0x69;
    bytes[1] = kind;
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

fn minutes(since_epoch: i32) -> DateTime {
    DateTime::from_millis(EPOCH_MS + i64::from(since_epoch) * MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seedings_are_equal_and_big_enough() {
        let documents = || all().into_iter().flat_map(|seeded| seeded.documents).collect::<Vec<_>>();
        let first = documents();
        assert!(first.len() >= 20_000, "{}", first.len());
        assert_eq!(first, documents());
    }

    #[test]
    fn unique_indexes_hold() {
        for seeded in all() {
            for index in seeded.indexes.iter().filter(|index| index.unique) {
                let (key, _) = index.keys[0];
                let values: std::collections::HashSet<_> =
                    seeded.documents.iter().map(|document| document.get_str(key).unwrap()).collect();
                assert_eq!(values.len(), seeded.documents.len(), "{}.{key}", seeded.name);
            }
        }
    }
}
