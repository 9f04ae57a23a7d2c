//! What makes a machine start its node at boot: one file, and the link by which it is enabled.

use camino::{Utf8Path, Utf8PathBuf};

/// What starts a machine's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd.
    Systemd,
    /// OpenRC.
    Openrc,
}

/// What has to be known of a cluster to start it at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The cluster's name.
    pub cluster: String,
    /// The kayak that is run.
    pub program: Utf8PathBuf,
    /// Its `KAYAK_STATE_DIR`.
    pub state: Utf8PathBuf,
    /// Its `KAYAK_CACHE_DIR`.
    pub cache: Utf8PathBuf,
}

/// How long a stop may take: what the driver gives a node to stop by itself, and room to clean up.
const STOP_SECONDS: u32 = 60;

/// How long the start may take: longer than any gate is waited for.
const START_SECONDS: u32 = 900;

impl Init {
    /// Every one there is.
    pub const ALL: [Self; 2] = [Self::Systemd, Self::Openrc];

    /// The directory by which it is told that it runs the machine.
    pub fn mark(self) -> &'static Utf8Path {
        Utf8Path::new(match self {
            // sd_booted(3).
            Self::Systemd => "/run/systemd/system",
            Self::Openrc => "/run/openrc",
        })
    }

    /// Where a cluster's file is.
    pub fn file(self, cluster: &str) -> Utf8PathBuf {
        match self {
            Self::Systemd => format!("/etc/systemd/system/kayak-{cluster}.service"),
            Self::Openrc => format!("/etc/init.d/kayak-{cluster}"),
        }
        .into()
    }

    /// Where the link to the file is that enables it.
    pub fn link(self, cluster: &str) -> Utf8PathBuf {
        match self {
            Self::Systemd => format!("/etc/systemd/system/multi-user.target.wants/kayak-{cluster}.service"),
            Self::Openrc => format!("/etc/runlevels/default/kayak-{cluster}"),
        }
        .into()
    }

    /// The permissions of the file.
    pub fn mode(self) -> u32 {
        match self {
            Self::Systemd => 0o644,
            Self::Openrc => 0o755,
        }
    }

    /// The file's text.
    pub fn text(self, boot: &Boot) -> String {
        match self {
            Self::Systemd => unit(boot),
            Self::Openrc => script(boot),
        }
    }
}

fn unit(boot: &Boot) -> String {
    let Boot { cluster, program, state, cache } = boot;
    let program = quoted(program.as_str());
    let state_variable = quoted(&format!("KAYAK_STATE_DIR={state}"));
    let cache_variable = quoted(&format!("KAYAK_CACHE_DIR={cache}"));
    let (state, cache) = (quoted(state.as_str()), quoted(cache.as_str()));
    // The nodes are in control groups of their own, which systemd does not touch: when this unit
    // stops, only `kayak stop` ends them.
    format!(
        "# Written by `kayak enable`; `kayak disable` removes it.\n\
         [Unit]\n\
         Description=kayak cluster {cluster}\n\
         After=network.target time-sync.target\n\
         RequiresMountsFor={state} {cache}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         # What it waits for may come late, such as the VPN that the node's address is on.\n\
         Restart=on-failure\n\
         RestartSec=10\n\
         RemainAfterExit=yes\n\
         Environment={state_variable} {cache_variable}\n\
         ExecStart={program} --cluster {cluster} resume\n\
         ExecStop={program} --cluster {cluster} stop\n\
         TimeoutStartSec={START_SECONDS}\n\
         TimeoutStopSec={STOP_SECONDS}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// Quotes a word for systemd, which knows `%` besides (systemd.unit(5)); `$` is only special in
/// a program's arguments.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

fn script(boot: &Boot) -> String {
    let Boot { cluster, program, state, cache } = boot;
    let [program, state, cache] = [program, state, cache].map(|path| single_quoted(path.as_str()));
    format!(
        "#!/sbin/openrc-run\n\
         # Written by `kayak enable`; `kayak disable` removes it.\n\
         description=\"kayak cluster {cluster}\"\n\
         export KAYAK_STATE_DIR={state}\n\
         export KAYAK_CACHE_DIR={cache}\n\
         \n\
         depend() {{\n\
         \x20 need localmount\n\
         \x20 after net ntpd chronyd\n\
         }}\n\
         \n\
         start() {{\n\
         \x20 ebegin \"Starting kayak cluster {cluster}\"\n\
         \x20 {program} --cluster {cluster} resume\n\
         \x20 eend $?\n\
         }}\n\
         \n\
         stop() {{\n\
         \x20 ebegin \"Stopping kayak cluster {cluster}\"\n\
         \x20 {program} --cluster {cluster} stop\n\
         \x20 eend $?\n\
         }}\n"
    )
}

/// Quotes a word for a shell.
fn single_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(state: &str) -> Boot {
        Boot {
            cluster: "home".into(),
            program: format!("{state}/home/bin/kayak").into(),
            state: state.into(),
            cache: "/root/.cache/kayak".into(),
        }
    }

    #[test]
    fn systemd_starts_and_stops_a_cluster_by_this_unit() {
        insta::assert_snapshot!(Init::Systemd.text(&boot("/var/lib/kayak")));
    }

    #[test]
    fn openrc_starts_and_stops_a_cluster_by_this_script() {
        insta::assert_snapshot!(Init::Openrc.text(&boot("/var/lib/kayak")));
    }

    #[test]
    fn odd_paths_are_quoted() {
        let odd = boot("/srv/a \"b\" 50% $HOME it's");
        let unit = Init::Systemd.text(&odd);
        assert!(unit.contains(r#"ExecStart="/srv/a \"b\" 50%% $HOME it's/home/bin/kayak" "#), "{unit}");
        let script = Init::Openrc.text(&odd);
        assert!(script.contains(r#"'/srv/a "b" 50% $HOME it'\''s/home/bin/kayak' "#), "{script}");
    }
}
