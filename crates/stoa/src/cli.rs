//! The command line: what the user can say, and nothing of how it is done.

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

/// One pool of machines for Kubernetes clients and Mesos frameworks.
#[derive(Debug, Parser)]
#[command(name = "stoa", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, for as long as the program starts")]
pub enum Command {
    /// Run a one-machine cluster in the foreground: master, agent and an embedded store.
    Up(Up),
    /// Kill every container and remove all that stoa made on this machine; the data directory stays.
    Down(Down),
    /// Run a master only: both APIs, the scheduler and the store.
    Master(Master),
    /// Run an agent only, joined to a master elsewhere.
    Agent(Agent),
    /// Manage join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Manage this machine's images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Show the cluster's health, machines and workloads.
    Status(Status),
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version(Output),
    /// Print generated reference pages.
    #[command(hide = true)]
    Reference {
        /// Which page.
        page: Page,
    },
}

/// A generated page.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Page {
    /// The command line.
    Cli,
    /// The served resources.
    Resources,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The output format.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Where this machine's state lies.
#[derive(Clone, Debug, Args)]
pub struct DataDir {
    /// Directory of this cluster's state on this machine.
    #[arg(long, env = "STOA_DATA_DIR", default_value = "/var/lib/stoa", value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// The two doors of a master.
#[derive(Clone, Debug, Args)]
pub struct Doors {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDR")]
    pub bind: IpAddr,
    /// Port of the Kubernetes API (and of agents' sessions).
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub api_port: u16,
    /// Port of the Mesos API.
    #[arg(long, default_value_t = 5050, value_name = "PORT")]
    pub mesos_port: u16,
    /// More names or addresses by which clients reach this master (for its certificate).
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub api_san: Vec<String>,
    /// Let Mesos frameworks register without credentials. Anyone who reaches the port can then run commands on agents.
    #[arg(long)]
    pub mesos_anonymous: bool,
    /// File with `principal secret` lines (or Mesos' JSON): the credentials of Mesos frameworks and operators.
    #[arg(long, value_name = "FILE")]
    pub mesos_credentials: Option<PathBuf>,
    /// File with ACLs in Mesos' JSON: which principal may do what.
    #[arg(long, value_name = "FILE")]
    pub mesos_acls: Option<PathBuf>,
    /// Fault domain of this master. Agents of other regions are offered only to frameworks that are aware of regions.
    #[arg(long, value_name = "REGION/ZONE")]
    pub mesos_domain: Option<String>,
    #[command(flatten)]
    pub authentication: Authentication,
    #[command(flatten)]
    pub admission: Admission,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cidr: String,
    /// Addresses of pods; every agent gets a part of it (`--node-cidr-mask-size`). By default the first free one from 10.244.0.0/16 on, chosen at the first
    /// start and kept.
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Length of the prefix of an agent's part of the pods' addresses: 24 is enough for 253 pods.
    #[arg(long, default_value_t = 24, value_name = "BITS", value_parser = clap::value_parser!(u8).range(16..=30))]
    pub node_cidr_mask_size: u8,
}

/// Who is known at the Kubernetes door besides those with a certificate or a service account's token. The flags are those of a
/// stock API server.
#[derive(Clone, Debug, Default, Args)]
pub struct Authentication {
    /// File of bearer tokens: `token,user,uid` and optionally `,"group1,group2"` a line.
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// URL of an OpenID issuer whose tokens are taken.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// For whom the issuer's tokens must be meant.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub oidc_client_id: Option<String>,
    /// Certificate of the authority that signs the issuer's; the system's authorities by default.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Claim that is the user's name.
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    pub oidc_username_claim: String,
    /// Prefix of users' names; the issuer's URL and `#` by default unless the claim is `email`; `-` for none.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    /// Claim that are the user's groups.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CLAIM")]
    pub oidc_groups_claim: String,
    /// Prefix of groups.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PREFIX")]
    pub oidc_groups_prefix: String,
    /// A claim that must have a value; may be given several times.
    #[arg(long, value_name = "CLAIM=VALUE")]
    pub oidc_required_claim: Vec<String>,
    /// Algorithms that may have signed the issuer's tokens.
    #[arg(long, value_delimiter = ',', default_value = "RS256", value_name = "ALG")]
    pub oidc_signing_algs: Vec<String>,
    /// Certificate of the authority of proxies that are believed about users.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of such proxies; all of that authority's by default.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers in which they name the user.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-User", value_name = "HEADER")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers in which they say the user's uid.
    #[arg(long, value_delimiter = ',', value_name = "HEADER")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers in which they name groups.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Group", value_name = "HEADER")]
    pub requestheader_group_headers: Vec<String>,
    /// What headers begin with in which they say more.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Extra-", value_name = "PREFIX")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

/// What is let in at the Kubernetes door. The flags are those of a stock API server.
#[derive(Clone, Debug, Default, Args)]
pub struct Admission {
    /// Admission plugins to turn on beside those that always run: OwnerReferencesPermissionEnforcement.
    #[arg(long, value_delimiter = ',', value_name = "PLUGIN")]
    pub enable_admission_plugins: Vec<String>,
    /// File with an AdmissionConfiguration: the pod security levels of namespaces that set none, and who is exempt.
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
}

/// Who gets which CPUs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CpuManagerPolicy {
    None,
    Static,
}

/// What an agent offers.
#[derive(Clone, Debug, Args)]
pub struct Machine {
    /// The node's name; the host's name by default.
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The address by which this machine is reached.
    #[arg(long, value_name = "ADDR")]
    pub node_ip: Option<IpAddr>,
    /// Where the agent's Mesos API listens for operators, "ADDR:PORT", or "none". On by default, on loopback, only where the master
    /// is on loopback; elsewhere operators come through the master.
    #[arg(long, value_name = "ADDR:PORT")]
    pub mesos_api: Option<String>,
    /// What Mesos frameworks that take revocable resources may have beside what the machine gives: "cpus:2;mem:512". Their tasks run at
    /// the lowest weight.
    #[arg(long, value_name = "RESOURCES")]
    pub revocable_resources: Option<String>,
    /// Above this load average of 5 minutes, tasks on revocable resources are ended.
    #[arg(long, value_name = "LOAD")]
    pub qos_load_5min: Option<f64>,
    /// The same of 15 minutes.
    #[arg(long, value_name = "LOAD")]
    pub qos_load_15min: Option<f64>,
    /// Folder of manifests of pods that run on this machine whatever a master says.
    #[arg(long, value_name = "DIR")]
    pub static_pods: Option<PathBuf>,
    /// Kernel parameters beside the safe ones that pods may set: "kernel.msg*,net.core.somaxconn".
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub allow_unsafe_sysctls: Vec<String>,
    /// Handlers of runtime classes that lead to this machine's runtime, beside "native", "stoa" and "runc".
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub runtime_handlers: Vec<String>,
    /// What is kept from pods for the machine itself: "cpus:0.5;mem:512;disk:1024".
    #[arg(long, value_name = "RESOURCES")]
    pub system_reserved: Option<String>,
    /// Whether containers may have CPUs to themselves. With "static", those of Guaranteed pods that ask for whole CPUs do; needs
    /// some that are reserved.
    #[arg(long, default_value = "none", value_name = "POLICY")]
    pub cpu_manager_policy: CpuManagerPolicy,
    /// CPUs that no container gets to itself, and that are kept from pods in place of those in --system-reserved: "0,2-3".
    #[arg(long, value_name = "CPUS")]
    pub reserved_cpus: Option<String>,
    /// Below these, the node is under pressure and pods are evicted: "memory.available<100Mi,nodefs.available<10%". By default a
    /// kubelet's; with `stoa up`, on a machine that may be used for other things, 1 GiB of the disk.
    #[arg(long, value_name = "THRESHOLDS")]
    pub eviction_hard: Option<String>,
    /// Below these for their grace period, pods are evicted with time to end: "memory.available<1Gi".
    #[arg(long, value_name = "THRESHOLDS")]
    pub eviction_soft: Option<String>,
    /// For how long each soft threshold must be crossed: "memory.available=1m30s".
    #[arg(long, value_name = "PERIODS")]
    pub eviction_soft_grace_period: Option<String>,
    /// Most seconds that a pod evicted by a soft threshold gets to end.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub eviction_max_pod_grace_period: u64,
    /// For how many seconds pressure is told of after it has passed.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub pressure_hold: u64,
    /// Above this percentage of the disk, images that no pod needs and a registry can give again are removed.
    #[arg(long, default_value_t = 85, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high_percent: u8,
    /// Down to this percentage.
    #[arg(long, default_value_t = 80, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low_percent: u8,
    /// For how many seconds pods may end themselves when the machine goes down (SIGPWR, or SIGTERM while systemd stops).
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub shutdown_grace: u64,
    /// Most pods on this machine.
    #[arg(long, default_value_t = 110, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_pods: u32,
    /// Most processes and threads of one pod.
    #[arg(long, default_value_t = 8_192, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(16..))]
    pub pod_pids_max: i64,
    /// Size in bytes at which a container's log file is rotated.
    #[arg(long, default_value_t = 10 << 20, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(4_096..))]
    pub log_bytes_max: u64,
    /// How many log files of a container are kept, the current one included.
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub log_files_max: u32,
}

/// Options of `stoa up`.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub doors: Doors,
    #[command(flatten)]
    pub machine: Machine,
    /// What this machine gives to the pool, as Mesos writes it: "cpus:4;mem:8192;ports:[31000-32000]". What is left out is measured.
    #[arg(long, value_name = "RESOURCES")]
    pub agent_resources: Option<String>,
    /// Attributes of this machine: "rack:r1;zone:z". They become node labels too.
    #[arg(long, value_name = "ATTRIBUTES")]
    pub attributes: Option<String>,
}

/// Options of `stoa down`.
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    pub data: DataDir,
}

/// Options of `stoa master`.
#[derive(Debug, Args)]
pub struct Master {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub doors: Doors,
}

/// Options of `stoa agent`.
#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub machine: Machine,
    /// The masters' URLs.
    #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
    pub master: Vec<String>,
    /// Let operators use the agent's Mesos API without credentials. Anyone who reaches it can then run commands in its tasks.
    #[arg(long)]
    pub mesos_anonymous: bool,
    /// File with `principal secret` lines (or Mesos' JSON): the credentials of operators at the agent's Mesos API.
    #[arg(long, value_name = "FILE")]
    pub mesos_credentials: Option<PathBuf>,
    /// File with ACLs in Mesos' JSON: what which operator may do at the agent's Mesos API.
    #[arg(long, value_name = "FILE")]
    pub mesos_acls: Option<PathBuf>,
    /// A join token of `stoa token create`; needed at the first start only.
    #[arg(long, env = "STOA_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// What this machine gives to the pool, as Mesos writes it: "cpus:4;mem:8192;ports:[31000-32000]". What is left out is measured.
    #[arg(long, value_name = "RESOURCES")]
    pub resources: Option<String>,
    /// Attributes of this machine: "rack:r1;zone:z". They become node labels too.
    #[arg(long, value_name = "ATTRIBUTES")]
    pub attributes: Option<String>,
}

/// Subcommands of `stoa token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token with which agents may join.
    Create {
        #[command(flatten)]
        data: DataDir,
        /// For how long it is good, in hours.
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        hours: u32,
        #[command(flatten)]
        output: Output,
    },
}

/// Subcommands of `stoa image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Import an image archive: an OCI layout or `docker save` tar, gzip or zstd compressed or plain. A name without a registry is
    /// this machine's own from then on; for one that names its registry, `imagePullPolicy: Always` still asks there.
    Import {
        /// The archive; `-` for standard input.
        file: PathBuf,
        /// A name for the image, in place of those in the archive.
        #[arg(long, value_name = "NAME")]
        tag: Option<String>,
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        output: Output,
    },
    /// Make an image of a directory: its files become the root file system.
    Build {
        /// The directory.
        dir: PathBuf,
        /// The image's name.
        #[arg(long, value_name = "NAME")]
        tag: String,
        /// JSON file with `entrypoint`, `cmd`, `env`, `working_dir`, `user`, `exposed_ports`, `labels`.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        output: Output,
    },
    /// Pull an image from its registry. Mirrors, private authorities and credentials are read from `registries.yaml` in the data
    /// directory.
    Pull {
        /// The image's name: `nginx`, `registry.example:5000/team/app:v1`, `app@sha256:…`.
        image: String,
        /// A docker `config.json` with credentials.
        #[arg(long, value_name = "FILE")]
        auth_file: Option<PathBuf>,
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        output: Output,
    },
    /// List images.
    List {
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        output: Output,
    },
    /// Remove an image's name, and its layers once nothing names them.
    Remove {
        /// The image's name or id.
        image: String,
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        output: Output,
    },
}

/// Options of `stoa status`.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub output: Output,
}

/// A command's flags and their values.
pub type Flags = BTreeMap<String, String>;

/// Reads a command line: what to do, and with which flags.
///
/// # Errors
///
/// What clap says of a line that is none of ours; help that was asked for, too.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Cli, Flags), clap::Error> {
    let mut command = Cli::command();
    let mut matches = command.try_get_matches_from_mut(args)?;
    let flags = flags(&command, &matches);
    let cli = Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))?;
    Ok((cli, flags))
}

/// The flags of the command that was named, with their values as they were given or are by default; those that must stay secret
/// are named only.
fn flags(mut command: &clap::Command, mut matches: &clap::ArgMatches) -> Flags {
    let mut out = Flags::new();
    while let Some((name, inner)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else { break };
        (command, matches) = (found, inner);
    }
    for arg in command.get_arguments() {
        let (id, Some(flag)) = (arg.get_id().as_str(), arg.get_long()) else { continue };
        let given = matches.try_get_raw(id).ok().flatten();
        let values: Vec<_> = given.into_iter().flatten().map(|v| v.to_string_lossy()).collect();
        let value = if id == "token" { "CLASSIFIED".to_owned() } else { values.join(",") };
        if !matches!(flag, "help" | "version") {
            out.insert(flag.to_owned(), value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_shown_as_given_or_by_default() {
        let args = ["stoa", "master", "--api-port", "7000", "--api-san", "a,b"];
        let (cli, flags) = parse(args.map(OsString::from)).unwrap();
        assert!(matches!(cli.command, Command::Master(m) if m.doors.api_port == 7000));
        let of = |name: &str| flags.get(name).map(String::as_str);
        assert_eq!(
            (of("api-port"), of("mesos-port"), of("api-san")),
            (Some("7000"), Some("5050"), Some("a,b"))
        );
        assert_eq!(
            (of("mesos-anonymous"), of("token-auth-file"), of("help")),
            (Some("false"), Some(""), None)
        );
    }
}
