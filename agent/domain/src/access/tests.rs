use super::*;

fn principal(roles: &[Role], services: &[&str], credential: Credential) -> Principal {
    Principal {
        subject: Subject::parse("bob").unwrap(),
        credential,
        binding: Binding {
            roles: roles.iter().copied().collect(),
            services: services.iter().map(|name| ServiceName::parse(name).unwrap()).collect(),
        },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    }
}

#[test]
fn who_has_no_binding_has_no_rights() {
    let nobody = principal(&[], &[], Credential::Certificate);
    for permission in Permission::ALL {
        assert!(authorize(&nobody, *permission, Scope::None).is_err());
    }
}

#[test]
fn a_denial_names_permission_and_smallest_role() {
    let viewer = principal(&[Role::Viewer], &[], Credential::Certificate);
    let error = authorize(&viewer, Permission::ServiceRestart, Scope::None).unwrap_err();
    assert_eq!(error.reason, Reason::PermissionDenied);
    assert_eq!(error.message, "bob may not: service.restart needs role deployer, bob has viewer");
}

#[test]
fn a_token_never_reaches_what_only_admin_may() {
    let token = principal(&[Role::Admin], &[], Credential::Token);
    for permission in Permission::ALL {
        let only_admin = Role::ALL
            .iter()
            .filter(|role| **role != Role::Admin)
            .all(|role| !role.permissions().contains(permission));
        if only_admin {
            let error = authorize(&token, *permission, Scope::None).unwrap_err();
            assert_eq!(error.reason, Reason::CertificateRequired, "{permission:?}");
        }
    }
}

#[test]
fn a_scope_answers_alike_for_what_exists_and_what_does_not() {
    let scoped = principal(&[Role::Operator], &["backend"], Credential::Certificate);
    let service = |name| vec![ServiceName::parse(name).unwrap()];
    assert!(authorize(&scoped, Permission::ServiceRestart, Scope::Services(&service("backend"))).is_ok());
    for other in ["mongodb", "nonesuch"] {
        let error =
            authorize(&scoped, Permission::ServiceRestart, Scope::Services(&service(other))).unwrap_err();
        assert_eq!(error.reason, Reason::PermissionDenied);
    }
    assert!(authorize(&scoped, Permission::ServiceRestart, Scope::All).is_err());
}

#[test]
fn a_narrowed_token_has_less() {
    let mut token = principal(&[Role::Operator], &[], Credential::Token);
    token.narrowed = Some(BTreeSet::from([Permission::Status]));
    assert!(authorize(&token, Permission::Status, Scope::None).is_ok());
    assert!(authorize(&token, Permission::ServiceRestart, Scope::None).is_err());
}
