//! The database and its backups, asked for through `opsctl` against a whole platform.

use ops_tests::sandbox::{Options, Output, Sandbox};

use crate::running::Running;

fn ok(output: Output) -> Output {
    assert_eq!(output.code, Some(0), "{output:?}");
    output
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn counts(sandbox: &Sandbox) -> serde_json::Value {
    let mut counts = json(&ok(sandbox.opsctl("viewer", &["db", "count", "-o", "json"]).unwrap()));
    for count in counts["counts"].as_array_mut().unwrap() {
        count["took_ms"] = 0.into();
    }
    counts
}

/// A collection is gone, another is empty.
fn damage(sandbox: &Sandbox) {
    let mongodb = sandbox.description().mongodb.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = mongodb::Client::with_uri_str(&mongodb.uri).await.unwrap();
        let database = client.database(&mongodb.database);
        database.collection::<mongodb::bson::Document>("bids").drop().await.unwrap();
        let users = database.collection::<mongodb::bson::Document>("users");
        users.delete_many(mongodb::bson::doc! {}).await.unwrap();
    });
}

#[test]
fn a_platform_is_backed_up_destroyed_and_restored_from_a_laptop() {
    let mut sandbox = Sandbox::up(Options::default()).unwrap();
    let name = sandbox.description().mongodb.database.clone();

    let ping = json(&ok(sandbox.opsctl("viewer", &["db", "ping", "-o", "json"]).unwrap()));
    assert_eq!(ping["database"], name.as_str());
    ok(sandbox.opsctl("viewer", &["db", "stats"]).unwrap());
    let before = counts(&sandbox);

    let made = ok(sandbox.opsctl("operator", &["backup", "create", "--tag", "pre-deploy"]).unwrap());
    assert!(made.stdout.starts_with("ID "), "{made:?}");
    let listed = json(&ok(sandbox.opsctl("viewer", &["backup", "list", "-o", "json"]).unwrap()));
    let id = listed["backups"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["backups"][0]["state"], "ok");
    ok(sandbox.opsctl("viewer", &["backup", "show", "latest"]).unwrap());
    ok(sandbox.opsctl("backup", &["backup", "verify", &id]).unwrap());

    // Who may make one may not put one back over live data.
    let denied = sandbox.opsctl("operator", &["backup", "restore", "latest", "--confirm", &name]).unwrap();
    assert_eq!(denied.code, Some(4), "{denied:?}");
    let unconfirmed = sandbox.opsctl("admin", &["backup", "restore", "latest", "--yes"]).unwrap();
    assert_eq!(unconfirmed.code, Some(2), "{unconfirmed:?}");
    let unknown = sandbox.opsctl("viewer", &["backup", "show", "nope"]).unwrap();
    assert_eq!(unknown.code, Some(5), "{unknown:?}");

    damage(&sandbox);
    assert_ne!(counts(&sandbox), before);

    let plan = ok(sandbox.opsctl("admin", &["backup", "restore", &id, "--plan"]).unwrap());
    assert!(plan.stdout.contains("comes back"), "{plan:?}");
    assert_ne!(counts(&sandbox), before);

    let restored = ok(sandbox.opsctl("admin", &["backup", "restore", &id, "--confirm", &name]).unwrap());
    assert!(restored.stdout.contains("equal"), "{restored:?}");
    assert_eq!(counts(&sandbox), before);

    // An agent that starts anew knows its backups by its catalog.
    sandbox.stop_agent().unwrap();
    sandbox.start_agent().unwrap();
    let latest = json(&ok(sandbox.opsctl("viewer", &["backup", "show", "latest", "-o", "json"]).unwrap()));
    assert_eq!(latest["id"], id.as_str());
}

/// Killed after each phase of a restore; whichever moment it really meets, the data is whole and the report is true.
#[test]
fn an_agent_killed_in_a_restore_leaves_whole_old_data_or_whole_new_data_and_says_which() {
    let mut sandbox = Sandbox::up(Options::default()).unwrap();
    let name = sandbox.description().mongodb.database.clone();
    let whole = counts(&sandbox);
    ok(sandbox.opsctl("operator", &["backup", "create"]).unwrap());
    damage(&sandbox);
    let damaged = counts(&sandbox);
    for phase in [" check ", " load ", " compare ", " safety ", " swap "] {
        let mut restore =
            Running::start(&sandbox, "admin", &["backup", "restore", "latest", "--confirm", &name]);
        let id = restore.id();
        restore.until(phase);
        sandbox.kill_agent().unwrap();
        sandbox.start_agent().unwrap();
        let (code, stdout, stderr) = restore.end();
        let told = json(&sandbox.opsctl("viewer", &["operation", "get", &id, "-o", "json"]).unwrap());
        let expected = match told["state"].as_str().unwrap() {
            "succeeded" => (0, &whole),
            "undone" => (7, &damaged),
            // Nothing had been loaded yet.
            "failed" if told["problem"]["effect"] == "nothing was changed" => (1, &damaged),
            other => panic!("after{phase}it is {other}: {told}\n{stdout}{stderr}"),
        };
        assert_eq!(code, Some(expected.0), "after{phase}\n{stdout}{stderr}");
        // Every collection that there is: scratch and old ones would be among them.
        assert_eq!(&counts(&sandbox), expected.1, "after{phase}{told}");
        if expected.0 == 0 {
            damage(&sandbox);
        }
    }
    ok(sandbox.opsctl("admin", &["backup", "restore", "latest", "--confirm", &name]).unwrap());
    assert_eq!(counts(&sandbox), whole);
    ok(sandbox.opsctl("auditor", &["audit", "verify"]).unwrap());
}
