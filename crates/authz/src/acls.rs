//! Access control of Mesos' kind: for each action an ordered list of rules "these principals, these objects"; the first rule
//! that is about both decides, and where none is, what the file says in general (`permissive`). The file's format is Mesos'.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Most rules of one file.
const RULES_MAX: usize = 10_000;

/// The actions, the list of the file that is about each, and the name of its objects.
const ACTIONS: [(Action, &str, &str); 44] = [
    (Action::RegisterFramework, "register_frameworks", "roles"),
    (Action::RunTask, "run_tasks", "users"),
    (Action::ReserveResources, "reserve_resources", "roles"),
    (Action::UnreserveResources, "unreserve_resources", "reserver_principals"),
    (Action::CreateVolume, "create_volumes", "roles"),
    (Action::DestroyVolume, "destroy_volumes", "creator_principals"),
    (Action::ResizeVolume, "resize_volumes", "roles"),
    (Action::TeardownFramework, "teardown_frameworks", "framework_principals"),
    (Action::UpdateWeight, "update_weights", "roles"),
    (Action::GetEndpoint, "get_endpoints", "paths"),
    (Action::GetQuota, "get_quotas", "roles"),
    (Action::UpdateQuota, "update_quotas", "roles"),
    (Action::ViewFramework, "view_frameworks", "users"),
    (Action::ViewTask, "view_tasks", "users"),
    (Action::ViewExecutor, "view_executors", "users"),
    (Action::AccessSandbox, "access_sandboxes", "users"),
    (Action::AccessMesosLog, "access_mesos_logs", "logs"),
    (Action::ViewRole, "view_roles", "roles"),
    (Action::ViewFlags, "view_flags", "flags"),
    (Action::LaunchNestedContainer, "launch_nested_containers_as_user", "users"),
    (Action::LaunchNestedContainerSession, "launch_nested_container_sessions_as_user", "users"),
    (Action::KillNestedContainer, "kill_nested_containers", "users"),
    (Action::WaitNestedContainer, "wait_nested_containers", "users"),
    (Action::RemoveNestedContainer, "remove_nested_containers", "users"),
    (Action::AttachContainerInput, "attach_containers_input", "users"),
    (Action::AttachContainerOutput, "attach_containers_output", "users"),
    (Action::ViewContainer, "view_containers", "users"),
    (Action::SetLogLevel, "set_log_level", "level"),
    (Action::RegisterAgent, "register_agents", "agents"),
    (Action::UpdateMaintenanceSchedule, "update_maintenance_schedules", "machines"),
    (Action::GetMaintenanceSchedule, "get_maintenance_schedules", "machines"),
    (Action::StartMaintenance, "start_maintenances", "machines"),
    (Action::StopMaintenance, "stop_maintenances", "machines"),
    (Action::GetMaintenanceStatus, "get_maintenance_statuses", "machines"),
    (Action::DrainAgent, "drain_agents", "agents"),
    (Action::DeactivateAgent, "deactivate_agents", "agents"),
    (Action::ReactivateAgent, "reactivate_agents", "agents"),
    (Action::MarkAgentGone, "mark_agents_gone", "agents"),
    (Action::LaunchStandaloneContainer, "launch_standalone_containers", "users"),
    (Action::KillStandaloneContainer, "kill_standalone_containers", "users"),
    (Action::WaitStandaloneContainer, "wait_standalone_containers", "users"),
    (Action::RemoveStandaloneContainer, "remove_standalone_containers", "users"),
    (Action::ViewStandaloneContainer, "view_standalone_containers", "users"),
    (Action::PruneImages, "prune_images", "images"),
];

/// What somebody does. Each names what its objects are in [`ACTIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of the file's lists")]
pub enum Action {
    RegisterFramework,
    RunTask,
    ReserveResources,
    UnreserveResources,
    CreateVolume,
    DestroyVolume,
    ResizeVolume,
    TeardownFramework,
    UpdateWeight,
    GetEndpoint,
    GetQuota,
    UpdateQuota,
    ViewFramework,
    ViewTask,
    ViewExecutor,
    AccessSandbox,
    AccessMesosLog,
    ViewRole,
    ViewFlags,
    LaunchNestedContainer,
    LaunchNestedContainerSession,
    KillNestedContainer,
    WaitNestedContainer,
    RemoveNestedContainer,
    AttachContainerInput,
    AttachContainerOutput,
    ViewContainer,
    SetLogLevel,
    RegisterAgent,
    UpdateMaintenanceSchedule,
    GetMaintenanceSchedule,
    StartMaintenance,
    StopMaintenance,
    GetMaintenanceStatus,
    DrainAgent,
    DeactivateAgent,
    ReactivateAgent,
    MarkAgentGone,
    LaunchStandaloneContainer,
    KillStandaloneContainer,
    WaitStandaloneContainer,
    RemoveStandaloneContainer,
    ViewStandaloneContainer,
    PruneImages,
}

/// Why a file is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// It is no JSON object.
    #[error("the ACLs are no JSON object")]
    NoObject,
    /// It has a list that is not known: a rule that would silently not hold.
    #[error("unknown list of ACLs {0:?}")]
    Unknown(String),
    /// A rule lacks a part.
    #[error("a rule of {list:?} has no {part:?} with values or a type ANY or NONE")]
    Part {
        /// In which list.
        list: &'static str,
        /// Which part.
        part: &'static str,
    },
    /// Too many rules.
    #[error("more than {RULES_MAX} ACLs")]
    TooMany,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entity {
    Any,
    None,
    Some(BTreeSet<String>),
}

impl Entity {
    fn parse(value: &Value) -> Option<Entity> {
        match value["type"].as_str() {
            Some("ANY") => return Some(Entity::Any),
            Some("NONE") => return Some(Entity::None),
            Some("SOME") | None => {}
            Some(_) => return None,
        }
        let values = value["values"].as_array()?;
        values.iter().map(|v| v.as_str().map(String::from)).collect::<Option<_>>().map(Entity::Some)
    }

    fn to_value(&self) -> Value {
        match self {
            Entity::Any => json!({"type": "ANY"}),
            Entity::None => json!({"type": "NONE"}),
            Entity::Some(values) => json!({"values": values}),
        }
    }

    /// Whether the rule is about this one. Nobody in particular is only meant where anybody is.
    fn matches(&self, asked: Option<&str>) -> bool {
        match (self, asked) {
            (Entity::Any | Entity::None, _) => true,
            (Entity::Some(_), None) => false,
            (Entity::Some(values), Some(asked)) => has(values, asked),
        }
    }

    fn allows(&self, asked: Option<&str>) -> bool {
        match (self, asked) {
            (Entity::Any, _) => true,
            (Entity::None, _) | (Entity::Some(_), None) => false,
            (Entity::Some(values), Some(asked)) => has(values, asked),
        }
    }
}

/// Whether a value is among those of a rule; `a/%` stands for everything below `a`.
fn has(values: &BTreeSet<String>, asked: &str) -> bool {
    if values.contains(asked) {
        return true;
    }
    let above = asked.match_indices('/').map(|(i, _)| &asked[..i]);
    above.into_iter().any(|role| values.contains(&format!("{role}/%")))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    principals: Entity,
    objects: Entity,
}

/// The rules of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acls {
    is_permissive: bool,
    rules: BTreeMap<Action, Vec<Rule>>,
}

impl Default for Acls {
    /// Everybody may do everything.
    fn default() -> Self {
        Acls { is_permissive: true, rules: BTreeMap::new() }
    }
}

impl Acls {
    /// Reads a file's contents.
    pub fn parse(value: &Value) -> Result<Acls, AclError> {
        let lists = value.as_object().ok_or(AclError::NoObject)?;
        let mut out =
            Acls { is_permissive: value["permissive"].as_bool().unwrap_or(true), ..Acls::default() };
        let mut count = 0;
        for (name, rules) in lists.iter().filter(|(name, _)| *name != "permissive") {
            // `set_quotas` is what `update_quotas` was called.
            let known = if name == "set_quotas" { "update_quotas" } else { name };
            let found = ACTIONS.iter().find(|(_, list, _)| *list == known);
            let (action, list, object) = *found.ok_or_else(|| AclError::Unknown(name.clone()))?;
            for rule in rules.as_array().ok_or_else(|| AclError::Unknown(name.clone()))? {
                count += 1;
                if count > RULES_MAX {
                    return Err(AclError::TooMany);
                }
                let part =
                    |part: &'static str| Entity::parse(&rule[part]).ok_or(AclError::Part { list, part });
                let rule = Rule { principals: part("principals")?, objects: part(object)? };
                out.rules.entry(action).or_default().push(rule);
            }
        }
        Ok(out)
    }

    /// Whether a principal, or somebody without one, may do something to an object, or to any.
    pub fn may(&self, principal: Option<&str>, action: Action, object: Option<&str>) -> bool {
        for rule in self.rules.get(&action).into_iter().flatten() {
            if rule.principals.matches(principal) && rule.objects.matches(object) {
                return rule.principals.allows(principal) && rule.objects.allows(object);
            }
        }
        self.is_permissive
    }

    /// The rules that matter where one principal asks for some actions, in the file's form: somebody else can judge by them
    /// without being told of others.
    pub fn slice(&self, principal: Option<&str>, actions: &[Action]) -> Value {
        let mut out = serde_json::Map::new();
        out.insert("permissive".into(), self.is_permissive.into());
        for (action, list, object) in ACTIONS.iter().filter(|(a, ..)| actions.contains(a)) {
            let rules = self.rules.get(action).into_iter().flatten();
            let one = |rule: &Rule| {
                // Who asks is settled: the rule is about them, and is kind to them or not.
                let whom = if rule.principals.allows(principal) { Entity::Any } else { Entity::None };
                json!({"principals": whom.to_value(), *object: rule.objects.to_value()})
            };
            let mine: Vec<Value> = rules.filter(|r| r.principals.matches(principal)).map(one).collect();
            if !mine.is_empty() {
                out.insert((*list).into(), mine.into());
            }
        }
        out.into()
    }

    /// Whether everybody may do everything, so that nothing needs to be filtered.
    pub fn is_open(&self) -> bool {
        self.is_permissive && self.rules.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acls(value: Value) -> Acls {
        Acls::parse(&value).unwrap()
    }

    #[test]
    fn the_first_rule_that_is_about_both_decides() {
        let a = acls(json!({"register_frameworks": [
            {"principals": {"values": ["foo", "bar"]}, "roles": {"values": ["ads"]}},
            {"principals": {"type": "NONE"}, "roles": {"values": ["ads"]}},
            {"principals": {"values": ["foo"]}, "roles": {"type": "NONE"}},
        ]}));
        for (who, role, want) in [
            (Some("foo"), "ads", true),
            (Some("bar"), "ads", true),
            (Some("baz"), "ads", false),
            (None, "ads", false),
            (Some("foo"), "web", false),
            (Some("baz"), "web", true),
            (None, "web", true),
        ] {
            assert_eq!(a.may(who, Action::RegisterFramework, Some(role)), want, "{who:?} {role}");
        }
    }

    #[test]
    fn what_no_rule_is_about_follows_permissive() {
        let closed = acls(json!({"permissive": false, "run_tasks": [
            {"principals": {"type": "ANY"}, "users": {"values": ["nobody"]}}]}));
        assert!(closed.may(Some("p"), Action::RunTask, Some("nobody")));
        assert!(closed.may(None, Action::RunTask, Some("nobody")));
        assert!(!closed.may(Some("p"), Action::RunTask, Some("root")));
        assert!(!closed.may(Some("p"), Action::TeardownFramework, Some("p")));
        assert!(Acls::default().may(None, Action::MarkAgentGone, None));
        assert!(Acls::default().is_open() && !closed.is_open());
    }

    #[test]
    fn a_percent_sign_stands_for_everything_below_a_role() {
        let a = acls(json!({"permissive": false, "reserve_resources": [
            {"principals": {"values": ["p"]}, "roles": {"values": ["eng", "eng/%", "ops/%"]}}]}));
        for (role, want) in [
            ("eng", true),
            ("eng/dev", true),
            ("eng/dev/x", true),
            ("engine", false),
            ("ops", false),
            ("ops/a", true),
        ] {
            assert_eq!(a.may(Some("p"), Action::ReserveResources, Some(role)), want, "{role}");
        }
        assert!(!a.may(Some("p"), Action::ReserveResources, None), "any role is more than some");
    }

    #[test]
    fn a_slice_judges_its_principal_as_the_whole_does() {
        let whole = acls(json!({"permissive": false,
            "view_tasks": [
                {"principals": {"values": ["p"]}, "users": {"values": ["www"]}},
                {"principals": {"values": ["q"]}, "users": {"type": "ANY"}},
                {"principals": {"type": "NONE"}, "users": {"values": ["root"]}},
                {"principals": {"type": "ANY"}, "users": {"values": ["nobody"]}}],
            "run_tasks": [{"principals": {"type": "ANY"}, "users": {"type": "ANY"}}]}));
        for who in [Some("p"), Some("q"), Some("r"), None] {
            let slice = whole.slice(who, &[Action::ViewTask, Action::ViewExecutor]);
            assert!(slice.get("run_tasks").is_none() && !slice.to_string().contains("\"q\""), "{slice}");
            let slice = acls(slice);
            for user in ["www", "root", "nobody", "x"] {
                for action in [Action::ViewTask, Action::ViewExecutor] {
                    let (a, b) = (whole.may(who, action, Some(user)), slice.may(None, action, Some(user)));
                    assert_eq!(a, b, "{who:?} {user} {action:?}");
                }
            }
        }
    }

    #[test]
    fn a_file_with_a_mistake_is_refused() {
        for (bad, want) in [
            (json!([]), AclError::NoObject),
            (json!({"register_framework": []}), AclError::Unknown("register_framework".into())),
            (
                json!({"run_tasks": [{"principals": {"type": "ANY"}}]}),
                AclError::Part { list: "run_tasks", part: "users" },
            ),
            (
                json!({"run_tasks": [{"principals": {"type": "ALL"}, "users": {"type": "ANY"}}]}),
                AclError::Part { list: "run_tasks", part: "principals" },
            ),
        ] {
            assert_eq!(Acls::parse(&bad), Err(want), "{bad}");
        }
    }

    #[test]
    fn every_action_has_a_list_of_its_own() {
        let lists: BTreeSet<&str> = ACTIONS.iter().map(|(_, list, _)| *list).collect();
        let actions: BTreeSet<Action> = ACTIONS.iter().map(|(a, ..)| *a).collect();
        assert_eq!((lists.len(), actions.len()), (ACTIONS.len(), ACTIONS.len()));
        for (action, list, object) in ACTIONS {
            let mut rule = json!({"principals": {"values": ["p"]}});
            rule[object] = json!({"type": "ANY"});
            let a = acls(json!({"permissive": false, list: [rule]}));
            for (other, ..) in ACTIONS {
                assert_eq!(a.may(Some("p"), other, Some("x")), other == action, "{list} {other:?}");
                assert!(!a.may(Some("q"), other, Some("x")));
            }
        }
    }
}
