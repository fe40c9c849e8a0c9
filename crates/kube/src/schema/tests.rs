use super::*;

fn field(ty: &str, name: &str) -> Field<'static> {
    builtin().named(ty).and_then(|t| t.field(name)).unwrap_or_else(|| panic!("{ty}.{name}"))
}

#[test]
fn every_resource_and_subresource_has_a_type() {
    for resource in crate::resources().iter() {
        assert!(
            builtin().type_of_kind(resource.group, resource.version, resource.kind).is_some(),
            "{resource:?}"
        );
    }
    assert!(builtin().types().all(|t| t.name().len() <= TYPE_NAME_LEN_MAX));
    assert!(builtin().type_of_kind("", "v1", &"x".repeat(1_000)).is_none());
    assert_eq!(builtin().types().count(), 578);
    assert_eq!(builtin().types().map(|t| t.fields().count()).sum::<usize>(), 2428);
}

#[test]
fn a_field_carries_what_the_table_says() {
    let containers = field("core.v1.PodSpec", "containers");
    assert!(containers.is_required());
    assert_eq!(containers.list_type(), ListType::Map);
    assert_eq!(containers.map_keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!((containers.merge_key(), containers.patch_strategy().merge), (Some("name"), true));
    assert_eq!(containers.go_type(), "[]v1.Container");
    let Kind::List(element) = containers.kind() else { panic!("a list") };
    assert!(matches!(element.kind(), Kind::Struct(t) if t.name() == "core.v1.Container"));
    assert!(field("core.v1.PodSpec", "volumes").patch_strategy().retain_keys);
    assert!(field("core.v1.PodSpec", "nodeSelector").is_atomic());
    assert!(builtin().named("apis.meta.v1.LabelSelector").is_some_and(Type::is_atomic));
    assert_eq!(
        field("core.v1.ServicePort", "protocol").enum_values().collect::<Vec<_>>(),
        ["SCTP", "TCP", "UDP"]
    );
    assert_eq!(field("core.v1.ServicePort", "protocol").default(), Some("\"TCP\""));
    assert!(matches!(field("core.v1.ServicePort", "targetPort").kind(), Kind::IntOrString));
    assert!(matches!(field("core.v1.EventSeries", "lastObservedTime").kind(), Kind::MicroTime));
    assert_eq!(field("core.v1.HostPathVolumeSource", "type").enum_values().next(), Some(""));
    assert_eq!(field("core.v1.Container", "name").enum_values().count(), 0);
    assert_eq!(field("apis.meta.v1.ObjectMeta", "creationTimestamp").omit(), Omit::Zero);
    assert!(field("apps.v1.DeploymentSpec", "replicas").is_pointer());
}

#[test]
fn only_json_itself_is_any() {
    for ty in builtin().types() {
        for f in ty.fields() {
            let any = |k: Kind<'_>| matches!(k, Kind::Any);
            let is_any = match f.kind() {
                Kind::List(e) | Kind::Map(e) => any(e.kind()),
                k => any(k),
            };
            assert!(!is_any || ty.name() == "apiextensions.v1.JSONSchemaProps", "{ty:?}.{f:?}");
        }
    }
}
