//! The table of rights.

use super::*;

fn principal(name: &str, roles: &[Role]) -> Principal {
    Principal {
        name: name.to_owned(),
        roles: roles.to_vec(),
        groups: Vec::new(),
        account: None,
        scope: None,
    }
}

fn all_actions() -> impl Iterator<Item = Action> {
    Action::ALL.iter().copied().chain([Action::Unlisted])
}

#[test]
fn nobody_may_do_anything_without_a_role() {
    for roles in [&[][..], &[Role::Unknown]] {
        let nobody = principal("ann", roles);
        for action in all_actions() {
            assert!(authorize(&nobody, action, Resource::Site).is_err(), "{action:?}");
            assert!(
                authorize(&nobody, action, Resource::Owned { owner: "ann" }).is_err(),
                "{action:?}"
            );
            assert!(visible(&nobody, action).is_err(), "{action:?}");
        }
        assert_eq!(permitted(&nobody), []);
    }
}

#[test]
fn an_admin_may_do_everything() {
    let admin = principal("eve", &[Role::Admin]);
    for action in all_actions() {
        assert_eq!(authorize(&admin, action, Resource::Site), Ok(()));
        assert_eq!(authorize(&admin, action, Resource::Owned { owner: "ann" }), Ok(()));
        assert_eq!(visible(&admin, action), Ok(Rows::All));
    }
    assert_eq!(permitted(&admin).len(), Action::ALL.len());
}

#[test]
fn lists_show_what_may_be_done_and_nothing_else() {
    for roles in
        [&[][..], &[Role::User], &[Role::Admin], &[Role::User, Role::Admin], &[Role::Unknown]]
    {
        let ann = principal("ann", roles);
        for action in all_actions() {
            for owner in ["ann", "bob"] {
                let may = authorize(&ann, action, Resource::Owned { owner }).is_ok();
                let sees = visible(&ann, action).is_ok_and(|rows| rows.include(owner));
                assert_eq!(may, sees, "{roles:?} {action:?} {owner}");
            }
            let told = permitted(&ann).iter().any(|permitted| permitted.action == action);
            let may = authorize(&ann, action, Resource::Owned { owner: "ann" }).is_ok();
            assert_eq!(told, may && action != Action::Unlisted, "{roles:?} {action:?}");
        }
    }
}

#[test]
fn what_has_no_owner_is_nobodys_own() {
    let ann = principal("ann", &[Role::User]);
    for action in all_actions().filter(|action| granted_to_users(*action) == Some(Extent::Own)) {
        assert!(authorize(&ann, action, Resource::Site).is_err(), "{action:?}");
        assert!(authorize(&ann, action, Resource::Owned { owner: "" }).is_err(), "{action:?}");
    }
}

#[test]
fn a_refusal_says_what_whom_and_who_may() {
    let ann = principal("ann", &[Role::User]);
    let words = |action, resource| Refusal::from(authorize(&ann, action, resource).unwrap_err()).0;
    let refused = words(Action::NodeReboot, Resource::Site);
    assert_eq!(refused.title, "cannot reboot the node");
    assert_eq!(refused.detail, "`node-reboot` is refused to ann (user); an admin may do it");
    let refused = words(Action::WorkflowStart, Resource::Owned { owner: "bob" });
    assert_eq!(refused.title, "cannot start the workflow");
    assert_eq!(
        refused.detail,
        "`workflow-start` is refused to ann (user) on what is bob's; that user or an admin may do it"
    );
    let nobody = principal("old", &[]);
    let refused = authorize(&nobody, Action::NodeList, Resource::Site).unwrap_err().to_string();
    assert_eq!(refused, "`node-list` is refused to old (no role); a user may do it");
}

#[test]
fn a_scope_takes_away_and_never_adds() {
    for roles in [&[Role::User][..], &[Role::Admin], &[]] {
        let whole = principal("ann", roles);
        let scope: Vec<Action> = vec![Action::NodeList, Action::NodeReboot, Action::WorkflowStop];
        let scoped = Principal { scope: Some(scope.clone().into()), ..whole.clone() };
        for action in all_actions() {
            for resource in
                [Resource::Site, Resource::Owned { owner: "ann" }, Resource::Owned { owner: "bob" }]
            {
                let may = authorize(&whole, action, resource).is_ok() && scope.contains(&action);
                assert_eq!(
                    authorize(&scoped, action, resource).is_ok(),
                    may,
                    "{roles:?} {action:?}"
                );
            }
            let sees = visible(&whole, action).is_ok() && scope.contains(&action);
            assert_eq!(visible(&scoped, action).is_ok(), sees, "{roles:?} {action:?}");
        }
        assert!(permitted(&scoped).iter().all(|permitted| scope.contains(&permitted.action)));
    }
    let nothing =
        Principal { scope: Some(Vec::<Action>::new().into()), ..principal("eve", &[Role::Admin]) };
    assert_eq!(permitted(&nothing), []);
}

#[test]
fn a_refusal_names_the_scope() {
    let scoped = Principal {
        scope: Some(vec![Action::NodeList].into()),
        ..principal("eve", &[Role::Admin])
    };
    let words = |action| authorize(&scoped, action, Resource::Site).unwrap_err().to_string();
    assert_eq!(
        words(Action::NodeReboot),
        "`node-reboot` is not in the scope of the token that eve asks with; use another token of eve, or make one \
         with `bedplate token create NAME --allow node-reboot`"
    );
    assert_eq!(
        words(Action::UserEdit),
        "`user-edit` is not in the scope of the token that eve asks with; use a token of eve without a scope"
    );
}
