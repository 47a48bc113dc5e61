//! The names of roles that `opsd init` and `opsctl pki issue` write are those that the agent knows.

use ops_domain::access::Role;

#[test]
fn both_lists_of_roles_are_one() {
    let domain: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
    assert_eq!(ops_trust::policy::ROLES, domain);
}
