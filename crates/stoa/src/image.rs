//! `stoa image`: this machine's images, whether or not a cluster is running on them.

use crate::cli::ImageCommand;
use crate::cluster::{images_of, registries_of};
use crate::printer;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs::File;
use std::path::Path;
use stoa_image::{Config, Image, ImportOptions, Keyring, Puller, Reference, Store};

#[derive(Serialize)]
struct Shown {
    id: String,
    names: Vec<String>,
    size_bytes: u64,
    layers: usize,
}

impl From<&Image> for Shown {
    fn from(i: &Image) -> Shown {
        let familiar = |t: &String| Reference::parse(t).map_or_else(|_| t.clone(), |r| r.familiar());
        Shown {
            id: i.id.to_string(),
            names: i.tags.iter().map(familiar).collect(),
            size_bytes: i.size,
            layers: i.layers.len(),
        }
    }
}

fn open(data_dir: &Path) -> Result<Store> {
    let dir = images_of(data_dir);
    Store::open(&dir).with_context(|| format!("cannot open the images of {}", data_dir.display()))
}

/// Carries a subcommand out.
pub fn run(command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::Import { file, tag, data, output } => {
            let store = open(&data.data_dir)?;
            let options = ImportOptions { tag };
            let images = if file == Path::new("-") {
                store.import(std::io::stdin().lock(), options)
            } else {
                let archive = File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
                store.import(archive, options)
            };
            let images = images.with_context(|| format!("cannot import {}", file.display()))?;
            let shown: Vec<Shown> = images.iter().map(Shown::from).collect();
            printer::print(output.output, &shown, |all| {
                all.iter().map(|i| format!("imported {} ({})\n", i.names.join(", "), short(&i.id))).collect()
            })
        }
        ImageCommand::Build { dir, tag, config, data, output } => {
            let config = config.map(|path| Config::load(&path)).transpose()?.unwrap_or_default();
            let image = open(&data.data_dir)?
                .build(&dir, &tag, config)
                .with_context(|| format!("cannot build an image of {}", dir.display()))?;
            printer::print(output.output, &Shown::from(&image), |i| {
                format!("built {} ({})\n", i.names.join(", "), short(&i.id))
            })
        }
        ImageCommand::Pull { image, auth_file, data, output } => {
            let mut ring = Keyring::default();
            if let Some(path) = auth_file {
                let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                ring.add_docker_config(&json).with_context(|| format!("cannot use {}", path.display()))?;
            }
            let puller = Puller::new(open(&data.data_dir)?, registries_of(&data.data_dir));
            let pulling = async { puller.pull(&image, &ring).await };
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let pulled = runtime.block_on(pulling).with_context(|| format!("cannot pull {image}"))?;
            printer::print(output.output, &Shown::from(&pulled.image), |i| {
                format!("pulled {image} ({})\n", short(&i.id))
            })
        }
        ImageCommand::List { data, output } => {
            let images = open(&data.data_dir)?.list()?;
            let shown: Vec<Shown> = images.iter().map(Shown::from).collect();
            printer::print(output.output, &shown, |all| render(all))
        }
        ImageCommand::Remove { image, data, output } => {
            let removed = open(&data.data_dir)?.remove(&image)?;
            let lines: Vec<String> = removed
                .untagged
                .iter()
                .map(|t| format!("untagged {t}"))
                .chain(removed.deleted.iter().map(|d| format!("deleted {d}")))
                .collect();
            printer::print(output.output, &lines, |l| l.iter().map(|l| format!("{l}\n")).collect())
        }
    }
}

/// The first digits of an id, as many as people need to tell images apart.
fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    &hex[..hex.len().min(12)]
}

fn render(images: &[Shown]) -> String {
    let mut rows = Vec::new();
    for i in images {
        let unnamed = ["<none>".to_string()];
        let names = if i.names.is_empty() { &unnamed[..] } else { &i.names[..] };
        for name in names {
            let size = format!("{:.1} MB", i.size_bytes as f64 / 1e6);
            rows.push(vec![name.clone(), short(&i.id).to_string(), i.layers.to_string(), size]);
        }
    }
    rows.sort();
    printer::table(&["NAME", "ID", "LAYERS", "SIZE"], &rows)
}
