//! What is planned for a model before it is loaded is what an engine holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use glimmer::{
    ContextLength, DeviceKind, DeviceOptions, KvType, Limits, Load, Model, ModelFiles, OpenOptions, Overrides,
};

#[test]
fn an_engine_holds_what_was_planned() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let names = ["glm-edge-1.5b-chat", "chatglm-6b", "chatglm2-6b-int4", "glm4-9b-0414", "glm4-9b-orig-k256"];
    for (name, context, users, kv_type) in names.into_iter().flat_map(|name| {
        [(name, 100, 1, KvType::F16), (name, 1000, 1, KvType::F32), (name, 300, 40, KvType::Q8_0)]
    }) {
        let device =
            DeviceOptions { kind: DeviceKind::Cpu, kv_type: Some(kv_type), ..DeviceOptions::default() };
        let options = OpenOptions { device, ..OpenOptions::default() };
        let path = fixtures.join(name);
        let files = ModelFiles::new(path.as_path(), Overrides::default());
        let model = Model::open(path.as_path(), &options, &mut |_| {}).unwrap();
        let limits = Limits {
            context: ContextLength::Tokens(context),
            cache_tokens: Some(context * users),
            running: users,
            ..Limits::default()
        };
        let held = model.start(&limits).unwrap().memory();
        let load = Load { context, users, kv_type, device: DeviceKind::Cpu };
        let planned = load.needs(files.spec().unwrap());
        assert_eq!(planned.cache, held.kv as u64, "{name} {context} {users}");
        assert_eq!(planned.scratch, held.buffers as u64, "{name} {context} {users}");
    }
}
