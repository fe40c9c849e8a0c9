//! The plan for kernels made of plain files, and what is written where.

use super::*;
use crate::spec::{Network, SeLinux};
use rustix::io::Errno;
use serde_json::json;
use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A root with these files.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn pod(uid: &str) -> PodSpec {
    serde_json::from_value(json!({"uid": uid, "network": Network::Host})).unwrap()
}

fn container() -> ContainerSpec {
    ContainerSpec::new("c", "u", Rootfs::Layers { lower: vec![] }, vec!["true".into()], "/log")
}

fn on_host() -> ContainerSpec {
    ContainerSpec { rootfs: Rootfs::Host { sandbox: "/s".into() }, ..container() }
}

fn with(apparmor: AppArmor) -> ContainerSpec {
    ContainerSpec { apparmor, ..container() }
}

const ENABLED: (&str, &str) = ("sys/module/apparmor/parameters/enabled", "Y\n");
const PROFILES: (&str, &str) =
    ("sys/kernel/security/apparmor/profiles", "k8s-nginx (enforce)\n/usr/bin/man (x) (complain)\n");

fn localhost(name: &str) -> AppArmor {
    AppArmor::Localhost(name.into())
}

/// A parser that keeps what it is given, and lists it as loaded.
fn install_parser(root: &Path) {
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/args\ncat > {0}/profile\necho 'stoa-default (enforce)' >> {0}/{1}\n",
        root.display(),
        PROFILES.0
    );
    let parser = root.join("sbin/apparmor_parser");
    fs::create_dir_all(parser.parent().unwrap()).unwrap();
    fs::write(&parser, script).unwrap();
    fs::set_permissions(&parser, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_kernel_without_modules_confines_nobody_and_refuses_who_asks_for_a_profile() {
    // The last is what a container on a machine with AppArmor sees.
    for files in [&[][..], &[("sys/module/apparmor/parameters/enabled", "N\n")], &[ENABLED]] {
        let root = root(files);
        let kernel = Kernel::at(root.path());
        let labelled = ContainerSpec { selinux: Some(SeLinux::default()), ..container() };
        for spec in [container(), with(AppArmor::Unconfined), labelled] {
            assert_eq!(kernel.plan(&pod("u"), &spec).unwrap(), Confinement::default());
        }
        for profile in [AppArmor::RuntimeDefault, localhost("k8s-nginx")] {
            let error = kernel.plan(&pod("u"), &with(profile)).unwrap_err().to_string();
            assert!(error.ends_with("AppArmor is not enabled on the host"), "{error}");
        }
        assert!(!kernel.has_apparmor());
    }
}

#[test]
fn a_profile_of_the_machine_is_taken_by_its_whole_name_if_it_is_loaded() {
    let root = root(&[ENABLED, PROFILES]);
    let kernel = Kernel::at(root.path());
    assert!(kernel.has_apparmor());
    let plan = |spec: &ContainerSpec| kernel.plan(&pod("u"), spec).map(|c| c.apparmor);
    for name in ["k8s-nginx", "/usr/bin/man (x)"] {
        assert_eq!(plan(&with(localhost(name))).unwrap().as_deref(), Some(name));
        let privileged = ContainerSpec { privileged: true, ..with(localhost(name)) };
        assert_eq!(plan(&privileged).unwrap().as_deref(), Some(name));
    }
    for name in ["k8s", "", "k8s-nginx (enforce)"] {
        let error = plan(&with(localhost(name))).unwrap_err();
        assert_eq!(error.reason(), "CreateContainerError");
        assert!(error.to_string().contains("apparmor profile not found"), "{error}");
    }
}

#[test]
fn the_default_profile_is_loaded_once_and_given_to_whoever_names_none() {
    let root = root(&[ENABLED, PROFILES]);
    let kernel = Kernel::at(root.path());
    let plan = |spec: ContainerSpec| kernel.plan(&pod("u"), &spec).map(|c| c.apparmor);
    // Without the parser nobody can have it; who asked for it is refused, who did not is not.
    assert_eq!(plan(container()).unwrap(), None);
    assert!(plan(with(AppArmor::RuntimeDefault)).unwrap_err().to_string().contains("apparmor_parser"));
    install_parser(root.path());
    for spec in [container(), with(AppArmor::RuntimeDefault), container()] {
        assert_eq!(plan(spec).unwrap().as_deref(), Some("stoa-default"));
    }
    assert_eq!(fs::read_to_string(root.path().join("args")).unwrap(), "--replace --skip-cache\n");
    let profile = fs::read_to_string(root.path().join("profile")).unwrap();
    assert!(profile.starts_with("profile stoa-default "), "{profile}");
    for spec in [ContainerSpec { privileged: true, ..container() }, with(AppArmor::Unconfined), on_host()] {
        assert_eq!(plan(spec).unwrap(), None);
    }
    // Somebody unloaded it: it comes back.
    fs::write(root.path().join(PROFILES.0), "").unwrap();
    assert_eq!(plan(container()).unwrap().as_deref(), Some("stoa-default"));
    // A parser that fails lets nobody run without it.
    fs::write(root.path().join(PROFILES.0), "").unwrap();
    fs::write(root.path().join("sbin/apparmor_parser"), "#!/bin/sh\ncat > /dev/null\nexit 1\n").unwrap();
    assert!(plan(container()).is_err());
    // One that is gone takes nothing from what it loaded, also for the process after this one.
    fs::remove_file(root.path().join("sbin/apparmor_parser")).unwrap();
    fs::write(root.path().join(PROFILES.0), "stoa-default (enforce)\n").unwrap();
    let next = Kernel::at(root.path());
    for spec in [container(), with(AppArmor::RuntimeDefault)] {
        assert_eq!(plan(spec.clone()).unwrap().as_deref(), Some("stoa-default"));
        let planned = next.plan(&pod("u"), &spec).unwrap();
        assert_eq!(planned.apparmor.as_deref(), Some("stoa-default"));
    }
}

const SELINUX: [(&str, &str); 4] = [
    ("sys/fs/selinux/enforce", "1"),
    ("sys/fs/selinux/mls", "1"),
    ("etc/selinux/config", "# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"),
    (
        "etc/selinux/targeted/contexts/lxc_contexts",
        "process = \"system_u:system_r:box_t:s0\"\ncontent = \"x\"\nfile = \"system_u:object_r:box_file_t:s0\"\n",
    ),
];

#[test]
fn labels_are_the_policys_with_what_a_pod_names_put_over_them() {
    let root = root(&SELINUX);
    let kernel = Kernel::at(root.path());
    let mut pod = pod("u");
    pod.level = Some("s0:c1,c2".into());
    let plan = |pod: &PodSpec, spec: &ContainerSpec| {
        let c = kernel.plan(pod, spec).unwrap();
        (c.process_label.unwrap_or_default(), c.file_label.unwrap_or_default())
    };
    let pair = |process: &str, file: &str| (process.to_owned(), file.to_owned());
    // Nobody asked.
    assert_eq!(plan(&pod, &container()), pair("", ""));
    assert_eq!(kernel.shared_label(&pod).unwrap(), None);
    pod.selinux = Some(SeLinux::default());
    let usual = pair("system_u:system_r:box_t:s0:c1,c2", "system_u:object_r:box_file_t:s0:c1,c2");
    assert_eq!(plan(&pod, &container()), usual);
    assert_eq!(plan(&pod, &on_host()), usual);
    assert_eq!(kernel.shared_label(&pod).unwrap(), Some(usual.1.clone()));
    let own = SeLinux { kind: Some("spc_t".into()), user: Some("me_u".into()), ..SeLinux::default() };
    let labelled = ContainerSpec { selinux: Some(own), ..container() };
    let expected = pair("me_u:system_r:spc_t:s0:c1,c2", "me_u:object_r:box_file_t:s0:c1,c2");
    assert_eq!(plan(&pod, &labelled), expected);
    let privileged = ContainerSpec { privileged: true, ..container() };
    assert_eq!(plan(&pod, &privileged), (String::new(), usual.1));
    pod.selinux = Some(SeLinux { level: Some("s0:c8,c9".into()), ..SeLinux::default() });
    pod.level = kernel.choose_level(&pod, std::iter::empty()).unwrap();
    assert_eq!(plan(&pod, &container()).0, "system_u:system_r:box_t:s0:c8,c9");
    fs::write(root.path().join("sys/fs/selinux/mls"), "0").unwrap();
    assert_eq!(plan(&pod, &container()).0, "system_u:system_r:box_t");
}

#[test]
fn a_label_that_would_end_its_mount_option_is_refused() {
    let root = root(&SELINUX);
    let kernel = Kernel::at(root.path());
    let named =
        |name: &str, value: &str| -> SeLinux { serde_json::from_value(json!({name: value})).unwrap() };
    for (name, value) in [
        ("level", "s0\",size=1g,x=\""),
        ("level", "s0\0"),
        ("level", "s0 c1"),
        ("level", ""),
        ("user", "a:b"),
        ("role", "a,b"),
        ("kind", "a\\b"),
    ] {
        let asked = named(name, value);
        let pod = PodSpec { selinux: Some(asked.clone()), ..pod("u") };
        let error = kernel.shared_label(&pod).unwrap_err().to_string();
        assert!(error.starts_with("invalid pod: SELinux "), "{error}");
        let labelled = ContainerSpec { selinux: Some(asked.clone()), ..container() };
        let error = kernel.plan(&self::pod("u"), &labelled).unwrap_err();
        assert_eq!(error.reason(), "CreateContainerError");
        assert!(error.to_string().contains("holds what no label has"), "{error}");
        // Without SELinux nothing is made of it.
        assert_eq!(Kernel::at("/nonexistent").shared_label(&pod).unwrap(), None);
    }
    let level = "s0-s15:c0.c1023,c3";
    let pod = PodSpec { selinux: Some(named("level", level)), ..pod("u") };
    assert!(kernel.shared_label(&pod).unwrap().unwrap().ends_with(level));
}

#[test]
fn where_the_policy_knows_no_containers_the_usual_labels_are_tried() {
    let root = root(&SELINUX[..2]);
    let labelled = ContainerSpec { selinux: Some(SeLinux::default()), ..container() };
    let planned = Kernel::at(root.path()).plan(&pod("u"), &labelled).unwrap();
    assert_eq!(planned.process_label.as_deref(), Some("system_u:system_r:container_t:s0"));
    assert_eq!(planned.file_label.as_deref(), Some("system_u:object_r:container_file_t:s0"));
}

#[test]
fn no_two_pods_have_the_same_categories() {
    let root = root(&SELINUX);
    let kernel = Kernel::at(root.path());
    let mut pods: Vec<PodSpec> = Vec::new();
    // The same uid every time, so that every one begins its search at the same pair.
    for _ in 0..50 {
        let mut new = pod("same");
        new.level = kernel.choose_level(&new, pods.iter()).unwrap();
        let level = new.level.clone().unwrap();
        assert!(level.starts_with("s0:c") && level.contains(",c"), "{level}");
        assert!(pods.iter().all(|p| p.level.as_ref() != Some(&level)), "{level}");
        pods.push(new);
    }
    let bare = tempfile::tempdir().unwrap();
    assert_eq!(Kernel::at(bare.path()).choose_level(&pod("u"), std::iter::empty()).unwrap(), None);
}

#[test]
fn the_kernel_is_told_through_the_file_of_the_module() {
    let told = |files: &[(&str, &str)], confinement: &Confinement| {
        let root = root(files);
        let proc = File::open(root.path()).unwrap();
        let result = confinement.apply(proc.as_fd());
        let read = |file: &str| {
            fs::read_to_string(root.path().join("thread-self/attr").join(file)).unwrap_or_default()
        };
        result.map(|()| (read("apparmor/exec"), read("exec")))
    };
    let profile = Confinement { apparmor: Some("p".into()), ..Confinement::default() };
    let label = Confinement { process_label: Some("a:b:c:s0".into()), ..Confinement::default() };
    let (new, old) = (("thread-self/attr/apparmor/exec", ""), ("thread-self/attr/exec", ""));
    assert_eq!(told(&[new, old], &profile).unwrap(), ("exec p".into(), String::new()));
    assert_eq!(told(&[old], &profile).unwrap(), (String::new(), "exec p".into()));
    assert_eq!(told(&[new, old], &label).unwrap(), (String::new(), "a:b:c:s0".into()));
    // Where it cannot be told, nothing runs.
    assert!(told(&[], &profile).unwrap_err().to_string().contains("AppArmor profile \"p\""));
    assert!(told(&[new], &label).unwrap_err().to_string().contains("SELinux label"));
    assert_eq!(told(&[], &Confinement::default()).unwrap(), (String::new(), String::new()));
}

#[test]
fn marking_does_not_follow_links_out_of_a_volume() {
    let root = root(&[("in/sub/file", ""), ("out/file", "")]);
    std::os::unix::fs::symlink(root.path().join("out"), root.path().join("in/link")).unwrap();
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let marked = RefCell::new(HashSet::new());
    let mark = |path: &Path| {
        marked.borrow_mut().insert(inode(path));
        Ok(())
    };
    let volume = root.path().join("in");
    selinux::mark_below(&volume, &volume, &mark, 8).unwrap();
    let is_marked = |path: &str| marked.borrow().contains(&inode(&root.path().join(path)));
    for path in ["in", "in/sub", "in/sub/file", "in/link"] {
        assert!(is_marked(path), "{path}");
    }
    assert!(!is_marked("out") && !is_marked("out/file"));
    // A volume on a file system without labels is one without labels; that nobody may set them is an error.
    selinux::mark_below(&volume, &volume, &|_| Err(Errno::NOTSUP), 8).unwrap();
    let error = selinux::mark_below(&volume, &volume, &|_| Err(Errno::PERM), 8).unwrap_err().to_string();
    assert!(error.starts_with(&volume.display().to_string()), "{error}");
}
