//! Which processors there are, which of them share a core or a memory node, and where threads go.
//!
//! Source of the description: Linux' `/sys/devices/system` (`cpu/cpuN/topology/thread_siblings_list`,
//! `node/nodeN/cpulist`), restricted to the processors that the process may use. Elsewhere each processor counts as
//! a core of one node.

use crate::os;
use std::path::Path;

/// The processors that the process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// Physical cores, ascending by node and first processor.
    pub(crate) cores: Vec<Core>,
}

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Core {
    /// Memory node that it is nearest to.
    pub(crate) node: usize,
    /// Its processors (hardware threads), ascending.
    pub(crate) cpus: Vec<usize>,
}

/// Where a thread goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The processor.
    pub(crate) cpu: usize,
    /// Its memory node: what the thread reads most should lie there.
    pub(crate) node: usize,
}

impl Topology {
    /// The machine this runs on.
    pub(crate) fn detect() -> Topology {
        let available = std::thread::available_parallelism().map_or(1, |n| n.get());
        let allowed = os::allowed_cpus().unwrap_or_else(|| (0..available).collect());
        Topology::read(Path::new("/sys/devices/system"), &allowed)
    }

    /// Reads a description in the form of Linux' `/sys/devices/system`, keeping only processors in `allowed`.
    /// What the description does not say is taken as: no siblings, node 0.
    pub(crate) fn read(system: &Path, allowed: &[usize]) -> Topology {
        let list = |path: String| {
            std::fs::read_to_string(system.join(path)).ok().and_then(|text| parse_cpu_list(&text))
        };
        let nodes = list("node/online".to_owned()).unwrap_or_default();
        let members: Vec<(usize, Vec<usize>)> =
            nodes.into_iter().filter_map(|n| Some((n, list(format!("node/node{n}/cpulist"))?))).collect();
        let mut cores: Vec<Core> = Vec::new();
        for &cpu in allowed {
            let siblings = list(format!("cpu/cpu{cpu}/topology/thread_siblings_list")).unwrap_or_default();
            match cores.iter_mut().find(|core| core.cpus.iter().any(|other| siblings.contains(other))) {
                Some(core) => core.cpus.push(cpu),
                None => {
                    let node = members.iter().find(|(_, cpus)| cpus.contains(&cpu)).map_or(0, |m| m.0);
                    cores.push(Core { node, cpus: vec![cpu] });
                }
            }
        }
        cores.sort_by_key(|core| (core.node, core.cpus[0]));
        Topology { cores }
    }

    /// Number of processors.
    pub(crate) fn cpus(&self) -> usize {
        self.cores.iter().map(|core| core.cpus.len()).sum()
    }

    /// How many threads to start when nobody says: one per physical core, but no more than the process may keep busy
    /// (a container's quota).
    pub(crate) fn default_threads(&self) -> usize {
        let available = std::thread::available_parallelism().map_or(1, |n| n.get());
        self.cores.len().clamp(1, available)
    }

    /// Places for `threads` threads: one on each core, node after node, then on the cores' other processors in the
    /// same order; fewer when there are fewer processors. Threads next to each other are on the same node, so that a
    /// contiguous run of a matrix's rows belongs to one node. Where the cores of all nodes are not needed, the fewest
    /// nodes are used.
    pub(crate) fn placement(&self, threads: usize) -> Vec<Placement> {
        let most = self.cores.iter().map(|core| core.cpus.len()).max().unwrap_or(0);
        let mut places: Vec<Placement> = (0..most)
            .flat_map(|turn| {
                self.cores
                    .iter()
                    .filter_map(move |core| Some(Placement { cpu: *core.cpus.get(turn)?, node: core.node }))
            })
            .take(threads)
            .collect();
        places.sort_by_key(|place| place.node);
        places
    }
}

/// A list like `0-3,8,10-11`; `None` when it is malformed or absurdly long.
fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of two cores of two processors each, numbered as Linux does: siblings are 4 apart.
    fn two_sockets() -> Topology {
        let core = |node, a| Core { node, cpus: vec![a, a + 4] };
        Topology { cores: vec![core(0, 0), core(0, 1), core(1, 2), core(1, 3)] }
    }

    fn cpus_of(places: &[Placement]) -> Vec<usize> {
        places.iter().map(|place| place.cpu).collect()
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(parse_cpu_list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        for bad in ["3-1", "a", "0-99999999999", "1-"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_thread_per_core_before_siblings_and_nodes_stay_together() {
        let machine = two_sockets();
        assert_eq!(machine.cpus(), 8);
        assert_eq!(cpus_of(&machine.placement(1)), [0]);
        assert_eq!(cpus_of(&machine.placement(2)), [0, 1]);
        assert_eq!(cpus_of(&machine.placement(4)), [0, 1, 2, 3]);
        // Six threads: the first node's siblings come next, beside their node's other threads.
        assert_eq!(cpus_of(&machine.placement(6)), [0, 1, 4, 5, 2, 3]);
        assert_eq!(cpus_of(&machine.placement(8)), [0, 1, 4, 5, 2, 3, 6, 7]);
        assert_eq!(machine.placement(100).len(), 8);
        assert_eq!(machine.placement(8).iter().map(|p| p.node).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn a_system_tree_is_read_and_restricted() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("node/online".into(), "0-1\n");
        write("node/node0/cpulist".into(), "0-1,4-5\n");
        write("node/node1/cpulist".into(), "2-3,6-7\n");
        for cpu in 0..8 {
            let siblings = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
            write(format!("cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
        }
        assert_eq!(Topology::read(dir.path(), &[0, 1, 2, 3, 4, 5, 6, 7]), two_sockets());
        let some = Topology::read(dir.path(), &[1, 3, 7]);
        let expected = vec![Core { node: 0, cpus: vec![1] }, Core { node: 1, cpus: vec![3, 7] }];
        assert_eq!(some.cores, expected);
    }

    #[test]
    fn without_a_description_every_processor_is_a_core() {
        let plain = Topology::read(Path::new("/nowhere"), &[0, 1, 2]);
        assert_eq!(plain.cores.len(), 3);
        assert!(Topology::detect().default_threads() >= 1);
    }
}
