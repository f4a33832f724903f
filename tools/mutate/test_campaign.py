#!/usr/bin/env python3
"""Faults planted in programs that stand in for `glimmer`: the campaign must report each by its name, and nothing else."""

import json
import os
import pathlib
import stat
import tempfile
import unittest

import campaign
import judge
import seeds
from campaign import Campaign

# What each stand-in does, as the rest of a Python program whose arguments are `verb` and `rest`, and what is to be said of it.
PLANTED = {
    "exit 101": ("sys.exit(101)", {"panic"}),
    "a thread's panic": ("print(\"thread 'x' panicked at src/lib.rs:1:1\", file=sys.stderr)", {"panic"}),
    "abort": ("os.abort()", {"crash"}),
    "status": ("fail('no', 3)", {"status"}),
    "busy": ("\nwhile time.process_time() < 2.5: pass\nfail('slow')", {"time"}),
    "hungry": ("x = b'1' * (450 << 20); fail('large')", {"memory"}),
    "two errors": ("print('error: one', file=sys.stderr); fail('two')", {"not one line"}),
    "a second line": ("fail('one\\nand more')", {"not one line"}),
    "silent": ("sys.exit(1)", {"not one line"}),
    "error and success": ("print('error: no', file=sys.stderr)", {"not one line"}),
    "300 characters": ("fail('x' * (300 - len('error: ')))", {"long error"}),
    "long warning": ("print('warning: ' + 'x' * 300, file=sys.stderr)", {"long warning"}),
    "escape": ("fail('\\x1b[31mred')", {"control characters"}),
    "C1": ("fail('a\\x9bb')", {"control characters"}),
    "turned around": ("fail('\\u202eabc')", {"control characters"}),
    "carriage return": ("fail('a\\rb')", {"control characters"}),
    "escape in the log": ("print('2026-01-01T00:00:00Z ready \\x1b[1m', file=sys.stderr)", {"control characters"}),
    "escape on stdout": ("print('\\x1b[1m')", {"control characters on stdout"}),
}
SOUND = {
    "success": "print('ok')",
    "notes": "print('warning: old', file=sys.stderr); print('note: seed 1', file=sys.stderr)",
    "an error": "print('warning: old', file=sys.stderr); fail('no such thing')",
    "299 characters": "fail('x' * (299 - len('error: ')))",
    "wrong usage": "fail('no such flag', 2)",
}
PROGRAM = """#!/usr/bin/env python3
import os, pathlib, signal, sys, time
verb, rest = sys.argv[1], sys.argv[2:]
def fail(message, status=1):
    print("error: " + message, file=sys.stderr)
    sys.exit(status)
"""


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.addCleanup(setattr, judge, "IDLE_SECONDS", judge.IDLE_SECONDS)
        self.addCleanup(setattr, judge, "WALL_SECONDS", judge.WALL_SECONDS)

    def program(self, body):
        path = self.path / "program"
        path.write_text(PROGRAM + body + "\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def campaign(self, body, **options):
        # One model is enough for programs that read none.
        model = seeds.Seed("m", {"config.json": b'{"vocab_size": 5, "eos_token_id": [1, 2]}'}, text=True, tools=True)
        (self.path / "work").mkdir(exist_ok=True)
        return Campaign(self.program(body), 1, self.path / "work", models=[model], **options)

    def outcome(self, body):
        (self.path / "run").mkdir(exist_ok=True)
        outcome = judge.execute([self.program(body), "inspect"], folder=str(self.path / "run"))
        judge.judge(outcome, input_bytes=0, stdout_is_ours=True)
        return outcome

    def test_every_planted_fault_is_named(self):
        for name, (body, expected) in PLANTED.items():
            with self.subTest(name):
                self.assertEqual(set(self.outcome(body).faults), expected)

    def test_what_does_not_end_is_named(self):
        judge.IDLE_SECONDS = 2.0
        self.assertEqual(self.outcome("time.sleep(60)").faults, ["hang"])
        judge.IDLE_SECONDS, judge.WALL_SECONDS = 20.0, 3.0
        self.assertEqual(self.outcome("\nwhile True: time.sleep(0.01)").faults, ["hang"])

    def test_what_is_allowed_is_no_fault(self):
        for name, body in SOUND.items():
            with self.subTest(name):
                self.assertEqual(self.outcome(body).faults, [])

    def test_a_slow_machine_is_allowed_more(self):
        outcome = self.outcome("\nwhile time.process_time() < 2.5: pass")
        outcome.faults.clear()
        judge.judge(outcome, input_bytes=0, scale=2.0)
        self.assertEqual(outcome.faults, [])

    def test_memory_is_counted_beyond_the_file(self):
        outcome = self.outcome("x = b'1' * (450 << 20)")
        outcome.faults.clear()
        judge.judge(outcome, input_bytes=400 << 20)
        self.assertEqual(outcome.faults, [])

    def test_what_made_an_input_is_no_commands_memory(self):
        made = bytearray(b"1") * (450 << 20)
        del made
        self.assertEqual(self.outcome("print()").faults, [])

    def test_a_server_is_stopped_when_it_is_ready(self):
        body = ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
                "if verb == 'serve':\n    print('2026-01-01T00:00:00Z ready address=x', file=sys.stderr, flush=True)\n    time.sleep(60)")
        result = self.serve(body)
        self.assertEqual((result.runs, result.accepted, result.faults), (1, 1, []))

    def serve(self, body):
        planted = self.campaign(body)
        (self.path / "case").mkdir()
        return planted.run_in(self.path / "case", campaign.Case({}, [["serve", "@/model"]]), "serve/0")

    def test_conversion(self):
        convert = "out = pathlib.Path(rest[1] if verb == 'convert' else rest[0])\n"
        cases = {
            "unreadable output": convert + "out.write_bytes(b'') if verb == 'convert' else fail('unreadable')",
            "leftovers": convert + "(out.parent / '.part').write_bytes(b'') if verb == 'convert' else 0; fail('no')",
            None: convert + "out.write_bytes(b'') if verb == 'convert' else print('fine')",
        }
        for number, (expected, body) in enumerate(cases.items()):
            with self.subTest(expected):
                (self.path / f"case{number}").mkdir()
                case = campaign.Case({}, [["convert", "@/model", "@/out/x"], ["inspect", "@/out/x"]])
                result = self.campaign(body).run_in(self.path / f"case{number}", case, "x/0")
                self.assertEqual([fault[0] for fault in result.faults], [[expected]] if expected else [])

    def test_a_sound_input_must_be_taken(self):
        (self.path / "case").mkdir()
        case = campaign.Case({}, [["inspect", "@/model"]], sound=True)
        result = self.campaign("fail('no')").run_in(self.path / "case", case, "sound/0")
        self.assertEqual([fault[0] for fault in result.faults], [["refused"]])

    def test_through_the_pool_into_the_table(self):
        planted = self.campaign("sys.exit(101)", keep=str(self.path / "kept"))
        items = [("config", number) for number in range(6)]
        results = list(campaign.perform(planted, items, 2, progress=False))
        self.assertEqual({fault[0][0] for result in results for fault in result.faults}, {"panic"})
        self.assertIn("panic: 6", campaign.table(results)[-1])
        self.assertEqual(len(os.listdir(self.path / "kept")), 6)
        self.assertTrue((self.path / "kept/config-0/commands.txt").read_text().startswith("$ glimmer inspect ./model"))

    def test_the_same_seed_makes_the_same_inputs(self):
        planted, again = self.campaign("print()"), self.campaign("print()")
        for kind in ("config", "conversation", "tools", "texts"):
            for number in range(20):
                first, second = planted.case(kind, number), again.case(kind, number)
                self.assertEqual((first.files, first.commands), (second.files, second.commands))
        different = {json.dumps(sorted((name, content.hex()) for name, content in planted.case("conversation", number).files.items()))
                     for number in range(100)}
        self.assertGreater(len(different), 95)

    def test_an_input_is_counted_once(self):
        planted = self.campaign("print()")
        results = [planted.run("config", 0), planted.run("config", 0), planted.run("config", 1)]
        self.assertTrue(campaign.table(results)[-1].startswith("2 different inputs in "))


if __name__ == "__main__":
    unittest.main()
