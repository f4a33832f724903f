"""huggingface_hub and modelscope, unchanged, share their caches with `glimmer pull`, both ways, over the stand-in of the hubs.

Usage: share_caches.py GLIMMER STAND_IN FIXTURES
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

glimmer, stand_in, fixtures = (pathlib.Path(word).resolve() for word in sys.argv[1:])
place = pathlib.Path(tempfile.mkdtemp(prefix="glimmer-hub-"))
MODEL, GGUF = "zai-org/tiny", "zai-org/tiny-gguf"
MODEL_AT_MODELSCOPE = "ZhipuAI/tiny"


def publish():
    """Folders with the fixtures' files, and a large one of several pieces."""
    tiny = fixtures / "glm-edge-1.5b-chat"
    shutil.copytree(tiny, place / "tiny")
    (place / "tiny/LICENSE").write_text("as you like\n")
    gguf = place / "tiny-gguf"
    gguf.mkdir()
    state = b"glimmer"
    for name, count in [("m-Q4_K_M.gguf", 600_000), ("m-Q8_0.gguf", 1_300_000)]:
        with open(gguf / name, "wb") as file:
            for _ in range(count):
                state = hashlib.sha256(state).digest()
                file.write(state)
    words = [f"{MODEL}={place}/tiny", f"{MODEL_AT_MODELSCOPE}={place}/tiny", f"{GGUF}={gguf}"]
    server = subprocess.Popen([stand_in, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def run(*words, **variables):
    """The last line that glimmer prints."""
    environment = {**os.environ, "GLIMMER_ACCEPT_LICENCE": "1", **variables}
    done = subprocess.run([glimmer, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def same(found, wanted):
    """Whether every file of a folder is that of another one."""
    for path in wanted.rglob("*"):
        if path.is_file() and path.suffix != ".gguf":
            other = pathlib.Path(found) / path.relative_to(wanted)
            if other.exists():
                assert other.read_bytes() == path.read_bytes(), path
    assert (pathlib.Path(found) / "config.json").exists()


def tree(folder):
    """The paths of a folder with what links lead to, locks and listings apart."""
    skip = {".locks", ".lock"}
    paths = [path for path in folder.rglob("*") if not skip & set(path.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else None for path in paths}


def huggingface(endpoint):
    from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import IncompleteSnapshotError

    assert constants.ENDPOINT == endpoint
    ours, theirs = place / "hf-ours", place / "hf-theirs"
    printed = run("pull", MODEL, "--hub", "huggingface", HF_HUB_CACHE=str(ours))
    same(printed, place / "tiny")
    # What we fetched, they find without the network, and have nothing to fetch with it.
    found = snapshot_download(MODEL, cache_dir=ours, local_files_only=True)
    assert found == printed, (found, printed)
    before = tree(ours)
    assert snapshot_download(MODEL, cache_dir=ours) == printed
    assert tree(ours) == before
    assert try_to_load_from_cache(MODEL, "config.json", cache_dir=ours) == f"{printed}/config.json"
    scan = scan_cache_dir(ours)
    assert not scan.warnings and not scan.incomplete_files, scan
    (repo,) = scan.repos
    assert repo.repo_id == MODEL and {ref for revision in repo.revisions for ref in revision.refs} == {"main"}
    # What they fetch lies where ours does.
    fetched = snapshot_download(MODEL, cache_dir=theirs)
    assert tree(theirs) == before, set(tree(theirs).items()) ^ set(before.items())
    # And we find it, without the network and with it.
    assert run("pull", MODEL, "--hub", "huggingface", "--offline", HF_HUB_CACHE=str(theirs)) == fetched
    assert run("pull", MODEL, "--hub", "huggingface", HF_HUB_CACHE=str(theirs)) == fetched
    assert tree(theirs) == before
    # A part of a repository: they are told that it is one, and complete it.
    printed = run("pull", f"{GGUF}:Q4_K_M", "--hub", "huggingface", HF_HUB_CACHE=str(ours))
    folder = os.path.dirname(printed)
    try:
        snapshot_download(GGUF, cache_dir=ours, local_files_only=True)
        raise AssertionError("an incomplete snapshot passes for a complete one")
    except IncompleteSnapshotError:
        pass
    assert snapshot_download(GGUF, cache_dir=ours, allow_patterns="*Q4_K_M*", local_files_only=True) == folder
    blob = os.readlink(hf_hub_download(GGUF, "m-Q8_0.gguf", cache_dir=ours))
    assert blob.endswith(hashlib.sha256((place / "tiny-gguf/m-Q8_0.gguf").read_bytes()).hexdigest())
    assert run("pull", f"{GGUF}:Q8_0", "--offline", "--hub", "huggingface", HF_HUB_CACHE=str(ours)) == f"{folder}/m-Q8_0.gguf"
    report = json.loads(run("cache", "--verify", "--json", "--hub", "huggingface", HF_HUB_CACHE=str(ours)))
    assert [repo["id"] for repo in report["repositories"]] == [MODEL, GGUF]
    assert all(repo["verified"]["files"] > 0 and not repo["verified"]["faults"] for repo in report["repositories"])
    # What one removes is gone for the other.
    run("rm", GGUF, HF_HUB_CACHE=str(ours), MODELSCOPE_CACHE=str(place / "none"))
    assert [repo.repo_id for repo in scan_cache_dir(ours).repos] == [MODEL]
    strategy = scan_cache_dir(ours).delete_revisions(os.path.basename(found))
    strategy.execute()
    assert json.loads(run("cache", "--json", "--hub", "huggingface", HF_HUB_CACHE=str(ours)))["repositories"] == []
    print("huggingface_hub: the cache is shared both ways")


def modelscope(endpoint):
    from modelscope import snapshot_download

    ours, theirs, old = place / "ms-ours", place / "ms-theirs", place / "ms-old"

    def download(cache, **options):
        return snapshot_download(MODEL_AT_MODELSCOPE, cache_dir=str(cache), **options)

    # By the name that Hugging Face has: the owner is called otherwise here.
    printed = run("pull", MODEL_AT_MODELSCOPE, "--hub", "modelscope", MODELSCOPE_CACHE=str(ours))
    same(printed, place / "tiny")
    assert download(ours, local_files_only=True) == printed
    before = {path: os.stat(os.path.join(printed, path)).st_mtime_ns for path in os.listdir(printed)}
    assert download(ours) == printed
    after = {path: os.stat(os.path.join(printed, path)).st_mtime_ns for path in before}
    assert before == after, "files were fetched again"
    fetched = download(theirs)
    assert os.path.relpath(fetched, theirs) == os.path.relpath(printed, ours)
    assert run("pull", MODEL_AT_MODELSCOPE, "--hub", "modelscope", "--offline", MODELSCOPE_CACHE=str(theirs)) == fetched
    before = {path: os.stat(os.path.join(fetched, path)).st_mtime_ns for path in os.listdir(fetched)}
    assert run("pull", MODEL_AT_MODELSCOPE, "--hub", "modelscope", MODELSCOPE_CACHE=str(theirs)) == fetched
    after = {path: os.stat(os.path.join(fetched, path)).st_mtime_ns for path in before}
    assert before == after, "files were fetched again"
    report = json.loads(run("cache", "--verify", "--json", "--hub", "modelscope", MODELSCOPE_CACHE=str(theirs)))
    (repo,) = report["repositories"]
    assert repo["id"] == MODEL_AT_MODELSCOPE and repo["verified"]["files"] > 0 and not repo["verified"]["faults"], repo
    # A folder of an older layout is used by both.
    folder = old / "hub/models/ZhipuAI/tiny"
    folder.mkdir(parents=True)
    shutil.copy(place / "tiny/config.json", folder)
    assert run("pull", MODEL_AT_MODELSCOPE, "--hub", "modelscope", MODELSCOPE_CACHE=str(old)) == str(folder)
    assert download(old) == str(folder)
    print("modelscope: the cache is shared both ways")


server, endpoint = publish()
# The tools read these when they are imported.
os.environ.update(
    HF_ENDPOINT=endpoint,
    HF_HOME=str(place / "hf-home"),
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TQDM_DISABLE="1",
    MODELSCOPE_ENDPOINT=endpoint,
    MODELSCOPE_HOME=str(place / "ms-home"),
    MODELSCOPE_CACHE=str(place / "ms-cache"),
    NO_PROXY="127.0.0.1",
)
try:
    huggingface(endpoint)
    modelscope(endpoint)
finally:
    server.stdin.close()
    server.wait()
    shutil.rmtree(place)
