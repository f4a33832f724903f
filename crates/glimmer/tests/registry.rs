//! Several models in memory for fewer: who is loaded, who goes, who waits, and what can go wrong with that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use glimmer::{
    Embedder, KnownModel, LeaseError, Loaded, LoadedModel, ModelKind, ModelState, OpenError, Opener,
    Prepared, Progress, Registry, RegistryLimits, Shelf, Tokenizer,
};

/// What the models of a test hold together.
#[derive(Default)]
struct Held {
    bytes: AtomicU64,
    most: AtomicU64,
}

/// A model's bytes, as long as it is there.
struct Bytes(Arc<Held>, u64);

impl Bytes {
    fn take(held: &Arc<Held>, bytes: u64) -> Self {
        let now = held.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        held.most.fetch_max(now, Ordering::SeqCst);
        Bytes(Arc::clone(held), bytes)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.bytes.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// A gate that a load waits at.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn shut(&self) {
        *self.is_shut.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.is_shut.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }
}

/// A model that is nothing but its bytes.
struct Fake {
    name: &'static str,
    bytes: u64,
    held: Arc<Held>,
    gate: Gate,
    is_broken: AtomicBool,
    is_faulty: AtomicBool,
    opened: AtomicUsize,
}

impl Fake {
    fn new(name: &'static str, bytes: u64, held: &Arc<Held>) -> Arc<Self> {
        Arc::new(Fake {
            name,
            bytes,
            held: Arc::clone(held),
            gate: Gate::default(),
            is_broken: AtomicBool::new(false),
            is_faulty: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
        })
    }

    fn known(self: &Arc<Self>) -> KnownModel {
        self.kept(None)
    }

    fn kept(self: &Arc<Self>, keep_alive: Option<Duration>) -> KnownModel {
        KnownModel {
            names: vec![self.name.to_owned(), format!("{} too", self.name)],
            kind: ModelKind::Vectors,
            created: 7,
            opener: Arc::new(Handle(Arc::clone(self))),
            keep_alive,
        }
    }
}

struct Handle(Arc<Fake>);

impl Opener for Handle {
    fn prepare(&self) -> Result<Prepared, OpenError> {
        let fake = Arc::clone(&self.0);
        if fake.is_broken.load(Ordering::SeqCst) {
            return Err(format!("{} is broken", fake.name).into());
        }
        let open = move |progress: &mut dyn FnMut(Progress<'_>)| {
            assert!(!fake.is_faulty.load(Ordering::SeqCst), "as the test wants");
            progress(Progress::Loading { done: 1, total: 4 });
            fake.gate.pass();
            fake.opened.fetch_add(1, Ordering::SeqCst);
            Ok(LoadedModel::Embedder(embedder(fake.name, Bytes::take(&fake.held, fake.bytes))))
        };
        Ok(Prepared { memory: self.0.bytes, open: Box::new(open) })
    }
}

fn embedder(name: &str, bytes: Bytes) -> Embedder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/text2vec-bert");
    let compute = move |texts: &[_]| {
        // All of it, so that it goes with the model.
        let all = &bytes;
        Ok(vec![vec![all.1 as f32]; texts.len()])
    };
    Embedder::new(name.to_owned(), Tokenizer::from_dir(&dir).unwrap(), 512, 1, compute)
}

/// A registry of fakes with so many bytes.
fn registry(memory: u64, fakes: &[&Arc<Fake>]) -> Registry {
    let pause = Duration::from_millis(50);
    let registry = Registry::new(RegistryLimits { memory, waiting: 4, pause });
    fakes.iter().for_each(|fake| registry.know(fake.known()).unwrap());
    registry
}

fn state(registry: &Registry, name: &str) -> ModelState {
    let all = registry.status();
    all.into_iter().find(|status| status.names[0] == name).expect("it is known").state
}

/// Waits until something is so.
#[track_caller]
fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < deadline, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_model_makes_room_when_nobody_uses_it() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 60, &held));
    let registry = registry(100, &[&a, &b]);
    assert!(registry.find("a").is_none() && registry.all().is_empty());
    let lease = registry.lease("a").unwrap().wait().unwrap();
    assert_eq!((lease.name(), registry.memory().held), ("a", 60));
    let other = registry.lease("b too").unwrap();
    // It is in use, and goes on answering.
    std::thread::sleep(Duration::from_millis(20));
    assert!(!other.is_over());
    assert_eq!(state(&registry, "b"), ModelState::Loading { done: 0, total: 0 });
    drop(lease.clone());
    assert!(registry.find("a").is_none(), "nobody new is let to one that leaves");
    drop(lease);
    let lease = other.wait().unwrap();
    assert_eq!(lease.name(), "b");
    assert_eq!(state(&registry, "a"), ModelState::Unloaded);
    assert_eq!(held.most.load(Ordering::SeqCst), 60);
    let figures: Vec<_> =
        registry.status().iter().map(|s| (s.loads, s.unloads, s.memory, s.users, s.created)).collect();
    assert_eq!(figures, [(1, 1, 0, 0, 7), (1, 0, 60, 1, 7)]);
    drop((lease, registry));
    until(|| held.bytes.load(Ordering::SeqCst) == 0);
}

#[test]
fn the_one_used_longest_ago_goes() {
    let held = Arc::new(Held::default());
    let fakes = ["a", "b", "c", "d"].map(|name| Fake::new(name, 40, &held));
    let registry = registry(130, &fakes.each_ref());
    let use_once = |name| drop(registry.lease(name).unwrap().wait().unwrap());
    ["a", "b", "c", "a"].into_iter().for_each(use_once);
    // Looking is no use.
    drop(registry.find("b"));
    use_once("d");
    let loaded: Vec<String> = registry.all().iter().map(|lease| lease.name().to_owned()).collect();
    assert_eq!(loaded, ["a", "c", "d"]);
}

#[test]
fn who_waits_is_told_why_it_cannot_be() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 101, &held));
    let registry = registry(100, &[&a, &b]);
    assert_eq!(registry.lease("c").err(), Some(LeaseError::Unknown));
    let error = registry.lease("b").unwrap().wait().err();
    assert_eq!(error, Some(LeaseError::TooLarge { needed: 101, limit: 100 }));
    a.is_broken.store(true, Ordering::SeqCst);
    let waiting = [(); 3].map(|()| registry.lease("a").unwrap());
    for leasing in waiting {
        match leasing.wait().err().unwrap() {
            LeaseError::Failed { why, .. } => assert_eq!(&*why, "a is broken"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(state(&registry, "a"), ModelState::Failed { why: "a is broken".into() });
    // Nobody tries at once.
    let Err(LeaseError::Failed { retry_after, .. }) = registry.lease("a") else { panic!("it is paused") };
    assert!(retry_after <= Duration::from_millis(50));
    std::thread::sleep(retry_after);
    a.is_broken.store(false, Ordering::SeqCst);
    a.is_faulty.store(true, Ordering::SeqCst);
    let error = registry.lease("a").unwrap().wait().err();
    assert!(matches!(error, Some(LeaseError::Failed { why, .. }) if why.contains("fault")));
    assert_eq!(registry.memory().held, 0);
    a.is_faulty.store(false, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(registry.lease("a").unwrap().wait().unwrap().name(), "a");
    assert_eq!(registry.status()[0].failures, 2);
    // More memory is another matter.
    registry.set_memory(200);
    assert_eq!(registry.lease("b").unwrap().wait().unwrap().name(), "b");
}

#[test]
fn who_must_not_displace_others_is_told() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 60, &held));
    let registry = registry(100, &[&a, &b]);
    drop(registry.lease_beside_others("a").unwrap().wait().unwrap());
    let error = registry.lease_beside_others("b").unwrap().wait().err();
    assert_eq!(error, Some(LeaseError::NoRoom { needed: 60, free: 40 }));
    assert_eq!((state(&registry, "a"), state(&registry, "b")), (ModelState::Loaded, ModelState::Unloaded));
}

#[test]
fn waiting_is_bounded_and_ends_when_somebody_leaves() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 60, &held));
    let registry = registry(100, &[&a, &b]);
    a.gate.shut();
    let mut waiting: Vec<_> = (0..4).map(|_| registry.lease("a").unwrap()).collect();
    assert_eq!(registry.lease("a").err(), Some(LeaseError::Full { waiting: 4 }));
    drop(waiting.pop());
    waiting.push(registry.lease("a").unwrap());
    until(|| state(&registry, "a") == ModelState::Loading { done: 1, total: 4 });
    // What has begun is done, for whoever comes next; what has not is left.
    let other = registry.lease("b").unwrap();
    drop((waiting, other));
    a.gate.open();
    until(|| state(&registry, "a") == ModelState::Loaded);
    drop(registry.lease("a").unwrap().wait().unwrap());
    assert_eq!((a.opened.load(Ordering::SeqCst), b.opened.load(Ordering::SeqCst)), (1, 0));
    // Who gives up in the middle lets the other stay.
    let lease = registry.lease("a").unwrap().wait().unwrap();
    let other = registry.lease("b").unwrap();
    until(|| registry.find("a").is_none());
    let next = registry.lease("a").unwrap();
    assert!(!next.is_over());
    drop(other);
    drop(next.wait().unwrap());
    drop(lease);
    assert_eq!((a.opened.load(Ordering::SeqCst), b.opened.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn nobody_is_kept_from_a_model_by_those_who_use_another() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 60, &held));
    let registry = registry(100, &[&a, &b]);
    let done = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let end = Instant::now() + Duration::from_millis(500);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (registry, done) = (&registry, &done);
            scope.spawn(move || {
                while Instant::now() < end {
                    // Somebody always uses each.
                    let lease = registry.lease(["a", "b"][thread % 2]).unwrap().wait().unwrap();
                    std::thread::sleep(Duration::from_millis(3 + thread as u64));
                    done[thread % 2].fetch_add(1, Ordering::Relaxed);
                    drop(lease);
                }
            });
        }
    });
    let [a_done, b_done] = done.map(AtomicUsize::into_inner);
    assert!(a_done > 10 && b_done > 10, "{a_done} and {b_done}");
    assert_eq!(held.most.load(Ordering::SeqCst), 60);
}

#[test]
fn idle_models_go_after_their_time() {
    let held = Arc::new(Held::default());
    let (a, b, c) = (Fake::new("a", 10, &held), Fake::new("b", 10, &held), Fake::new("c", 10, &held));
    let registry = registry(100, &[&c]);
    registry.know(a.kept(Some(Duration::ZERO))).unwrap();
    registry.know(b.kept(Some(Duration::from_millis(100)))).unwrap();
    let leases = ["a", "b", "c"].map(|name| registry.lease(name).unwrap().wait().unwrap());
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(registry.all().len(), 3, "they are in use");
    let begin = Instant::now();
    drop(leases);
    until(|| state(&registry, "a") == ModelState::Unloaded);
    until(|| state(&registry, "b") == ModelState::Unloaded);
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(state(&registry, "c"), ModelState::Loaded);
    until(|| held.bytes.load(Ordering::SeqCst) == 10);
    drop(registry.lease("a").unwrap().wait().unwrap());
    assert_eq!(a.opened.load(Ordering::SeqCst), 2);
}

#[test]
fn a_wish_counts_until_the_model_goes() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 10, &held), Fake::new("b", 10, &held));
    let registry = registry(100, &[&a]);
    registry.know(b.kept(Some(Duration::ZERO))).unwrap();
    let stays = |name: &str| {
        let all = registry.status();
        all.into_iter().find(|status| status.names[0] == name).unwrap().stays
    };
    // Nobody can wish for what is not loaded.
    registry.keep("a", Some(Duration::ZERO));
    registry.keep("nobody", None);
    drop(registry.lease("a").unwrap().wait().unwrap());
    assert_eq!((state(&registry, "a"), stays("a")), (ModelState::Loaded, None));
    registry.keep("a too", Some(Duration::from_secs(3600)));
    assert!(stays("a") <= Some(Duration::from_secs(3600)) && stays("a") > Some(Duration::from_secs(3000)));
    let lease = registry.lease("a").unwrap().wait().unwrap();
    registry.keep("a", Some(Duration::ZERO));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(state(&registry, "a"), ModelState::Loaded, "it is in use");
    drop(lease);
    until(|| state(&registry, "a") == ModelState::Unloaded);
    // It is as before when it comes again.
    drop(registry.lease("a").unwrap().wait().unwrap());
    assert_eq!((state(&registry, "a"), stays("a")), (ModelState::Loaded, None));
    let lease = registry.lease("b").unwrap().wait().unwrap();
    registry.keep("b", None);
    drop(lease);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((state(&registry, "b"), stays("b")), (ModelState::Loaded, None));
}

#[test]
fn what_is_removed_is_there_for_those_who_have_it() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 60, &held));
    let registry = registry(100, &[&a, &b]);
    let lease = registry.lease("a").unwrap().wait().unwrap();
    let waiting = registry.lease("b").unwrap();
    assert!(registry.remove("b") && !registry.remove("b"));
    assert_eq!(waiting.wait().err(), Some(LeaseError::Removed));
    assert!(registry.remove("a too"));
    assert_eq!((registry.lease("a").err(), registry.names()), (Some(LeaseError::Unknown), Vec::new()));
    assert_eq!((lease.name(), registry.memory().held), ("a", 60));
    // The name is free for another.
    registry.know(a.known()).unwrap();
    drop(lease);
    assert_eq!(registry.lease("a").unwrap().wait().unwrap().name(), "a");
    assert_eq!(held.most.load(Ordering::SeqCst), 60);
    // In the middle of its load.
    assert!(registry.remove("a"));
    until(|| held.bytes.load(Ordering::SeqCst) == 0);
    registry.know(b.known()).unwrap();
    b.gate.shut();
    let waiting = registry.lease("b").unwrap();
    until(|| state(&registry, "b") == ModelState::Loading { done: 1, total: 4 });
    assert!(registry.remove("b"));
    assert_eq!(waiting.wait().err(), Some(LeaseError::Removed));
    b.gate.open();
    until(|| b.opened.load(Ordering::SeqCst) == 1 && registry.memory().held == 0);
    assert_eq!(held.bytes.load(Ordering::SeqCst), 0);
}

#[test]
fn nobody_waits_for_a_registry_that_is_gone() {
    let held = Arc::new(Held::default());
    let (a, b) = (Fake::new("a", 60, &held), Fake::new("b", 60, &held));
    let registry = registry(100, &[&a, &b]);
    let lease = registry.lease("a").unwrap().wait().unwrap();
    let waiting = registry.lease("b").unwrap();
    drop(registry);
    assert_eq!(waiting.wait().err(), Some(LeaseError::Removed));
    assert_eq!(lease.name(), "a");
}

#[test]
fn what_came_loaded_stays() {
    let held = Arc::new(Held::default());
    let a = Fake::new("a", 60, &held);
    let registry = registry(100, &[&a]);
    registry.add(Loaded::embedder(embedder("fixed", Bytes::take(&held, 5)))).unwrap();
    assert!(registry.know(Fake::new("fixed", 1, &held).known()).is_err());
    drop(registry.lease("a").unwrap().wait().unwrap());
    assert_eq!(registry.find("fixed").unwrap().name(), "fixed");
    assert_eq!(registry.first(ModelKind::Vectors).as_deref(), Some("a"));
    assert_eq!(registry.first(ModelKind::Text), None);
    assert!(registry.remove("fixed"));
    until(|| held.bytes.load(Ordering::SeqCst) == 60);
}

struct Listed(Mutex<Vec<Arc<Fake>>>);

impl Shelf for &'static Listed {
    fn models(&self) -> Vec<KnownModel> {
        self.0.lock().unwrap().iter().map(|fake| fake.known()).collect()
    }
}

#[test]
fn a_shelf_is_looked_at_again() {
    let held = Arc::new(Held::default());
    let [a, b, c] = ["a", "b", "c"].map(|name| Fake::new(name, 10, &held));
    let shelf: &'static Listed = Box::leak(Box::new(Listed(Mutex::new(vec![a.clone(), b.clone()]))));
    let registry = registry(100, &[]);
    registry.look_in(Box::new(shelf));
    let first = |names: Vec<String>| names.into_iter().step_by(2).collect::<Vec<_>>();
    assert_eq!(first(registry.names()), ["a", "b"]);
    drop(registry.lease("a").unwrap().wait().unwrap());
    *shelf.0.lock().unwrap() = vec![c.clone(), a.clone()];
    assert_eq!(first(registry.names()), ["a", "b"]);
    registry.refresh();
    assert_eq!(first(registry.names()), ["a", "c"]);
    // What is gone stays as long as it is loaded.
    shelf.0.lock().unwrap().clear();
    registry.refresh();
    assert_eq!(first(registry.names()), ["a"]);
    assert_eq!(a.opened.load(Ordering::SeqCst), 1);
}

#[test]
fn in_any_order_of_events_memory_is_kept_to_and_everybody_is_served() {
    const LIMIT: u64 = 100;
    let held = Arc::new(Held::default());
    let names = ["a", "b", "c", "d", "e"];
    let fakes: Vec<Arc<Fake>> =
        names.iter().zip([30, 40, 50, 60, 70]).map(|(name, bytes)| Fake::new(name, bytes, &held)).collect();
    let registry = Registry::new(RegistryLimits { memory: LIMIT, waiting: 64, pause: Duration::ZERO });
    for (number, fake) in fakes.iter().enumerate() {
        registry.know(fake.kept((number % 2 == 0).then(|| Duration::from_millis(1)))).unwrap();
    }
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (registry, fakes, served) = (&registry, &fakes, &served);
            scope.spawn(move || {
                let mut random = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let mut next = |below: u64| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random % below
                };
                for _ in 0..200 {
                    let fake = &fakes[next(5) as usize];
                    fake.is_broken.store(next(20) == 0, Ordering::SeqCst);
                    let leasing = match registry.lease(fake.name) {
                        Ok(leasing) => leasing,
                        Err(LeaseError::Failed { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    if next(8) == 0 {
                        continue;
                    }
                    match leasing.wait() {
                        Ok(lease) => {
                            let LoadedModel::Embedder(embedder) = &lease.model else { panic!("vectors") };
                            let vector = embedder.embed(&["x"]).unwrap();
                            assert_eq!(vector, [[fake.bytes as f32]]);
                            let copy = lease.clone();
                            drop(lease);
                            std::thread::sleep(Duration::from_micros(next(300)));
                            drop(copy);
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(LeaseError::Failed { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    assert!(registry.memory().held <= LIMIT);
                }
            });
        }
    });
    assert!(served.into_inner() > 1000);
    assert!(held.most.load(Ordering::SeqCst) <= LIMIT);
    assert!(registry.status().iter().all(|status| status.users == 0 && status.waiting == 0));
    drop(registry);
    until(|| held.bytes.load(Ordering::SeqCst) == 0);
}
