//! What every cluster has from its first moment: the four namespaces, the stock roles and bindings, the priority classes, the range of
//! services' addresses, and the `kubernetes` service. Made where absent at every start, never overwritten; beside them what the
//! server writes down about itself (`published`).

mod published;

use crate::{Context, Registry, Target};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use stoa_kube::{Resource, Status, resources};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Under which pods find the API server.
const SERVICE_PORT: u16 = 443;

fn find(group: &str, version: &str, plural: &str) -> Result<&'static Resource, Status> {
    resources().find(group, version, plural).ok_or_else(|| Status::internal(format!("{plural} are unknown")))
}

impl Registry {
    /// Makes what is missing. Much at once: a first start then waits for the disk a few times, not once for each object.
    /// Comes before [`Registry::start_authorizer`], which then reads the first roles once.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        let namespaces = find("", "v1", "namespaces")?;
        let make = |name: &&str| self.ensure(namespaces, "", json!({"metadata": {"name": name}}));
        try_join_all(NAMESPACES.iter().map(make)).await?;
        let mut making = Vec::new();
        for object in stoa_authz::bootstrap_objects() {
            let kind = object["kind"].as_str().unwrap_or_default();
            let resource = resources()
                .find_kind(stoa_authz::RBAC_GROUP, "v1", kind)
                .ok_or_else(|| Status::internal(format!("{kind} is unknown")))?;
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_string();
            making.push(async move { self.ensure(resource, &namespace, object).await });
        }
        let cidrs = find("networking.k8s.io", "v1", "servicecidrs")?;
        let range = json!({"metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [self.options().service_cidr.to_string()]}});
        let (made, range) = tokio::join!(try_join_all(making), self.ensure(cidrs, "", range));
        made?;
        range?;
        let classes = find("scheduling.k8s.io", "v1", "priorityclasses")?;
        for (name, value, about) in [
            (
                "system-cluster-critical",
                2_000_000_000,
                "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
            ),
            (
                "system-node-critical",
                2_000_001_000,
                "Used for system critical pods that must not be moved from their current node.",
            ),
        ] {
            let class = json!({"metadata": {"name": name}, "value": value, "description": about});
            self.ensure(classes, "", class).await?;
        }
        self.publish().await?;
        self.bootstrap_service().await
    }

    async fn bootstrap_service(&self) -> Result<(), Status> {
        let address = self.options().service_cidr.nth(0).to_string();
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let target_port = self.options().advertise.map_or(SERVICE_PORT, |(_, port)| port);
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"clusterIP": address, "type": "ClusterIP", "sessionAffinity": "None", "ports": [
                {"name": "https", "port": SERVICE_PORT, "protocol": "TCP", "targetPort": target_port}]},
        });
        self.ensure(find("", "v1", "services")?, "default", service).await?;
        self.ensure(find("", "v1", "services")?, "kube-system", self.dns_service()).await?;
        let Some((ip, port)) = self.options().advertise else { return Ok(()) };
        let ctx = Context::system("bootstrap");
        let subsets = json!([{"addresses": [{"ip": ip.to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
        let endpoints = find("", "v1", "endpoints")?;
        let object = json!({"metadata": {"name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}, "subsets": subsets});
        self.update(&ctx, Target::new(endpoints, "default", "kubernetes"), object).await?;
        let slices = find("discovery.k8s.io", "v1", "endpointslices")?;
        let slice = json!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        });
        self.ensure(slices, "default", slice.clone()).await?;
        let target = Target::new(slices, "default", "kubernetes");
        self.modify(&ctx, target, |now| {
            for field in ["endpoints", "ports"] {
                now[field] = slice[field].clone();
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// The service by which pods ask for names. Every machine answers its own pods: there is no endpoint to list.
    fn dns_service(&self) -> Value {
        let address = self.options().service_cidr.dns().to_string();
        let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"});
        json!({
            "metadata": {"name": "kube-dns", "labels": labels},
            "spec": {"clusterIP": address, "type": "ClusterIP", "sessionAffinity": "None", "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]},
        })
    }

    /// Creates an object unless there is one of that name.
    async fn ensure(&self, resource: &Resource, namespace: &str, object: Value) -> Result<(), Status> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
        if self.store().get(&self.key(resource, namespace, &name)).is_some() {
            return Ok(());
        }
        let ctx = Context::system("bootstrap");
        match self.create(&ctx, Target::new(resource, namespace, ""), object).await {
            Ok(_) => Ok(()),
            // Another process was faster.
            Err(status) if status.is(stoa_kube::reason::ALREADY_EXISTS) => Ok(()),
            Err(status) => Err(status),
        }
    }
}
