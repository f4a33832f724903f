//! The interpreter of templates against Jinja2 itself, and against templates that mean harm.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

mod support;

use glimmer_chat::{ChatError, ChatTemplate, Conversation, Message, Role, Segment};
use serde_json::json;
use std::time::Instant;
use support::data;

#[test]
fn templates_come_out_as_jinja2_renders_them() {
    let cases = data("jinja.jsonl");
    let (header, cases) = cases.split_first().unwrap();
    let mut conversation: Conversation = serde_json::from_value(header["messages"].clone()).unwrap();
    conversation.extra = header["variables"].as_object().unwrap().clone();
    let mut wrong = Vec::new();
    for case in cases {
        let source = case["template"].as_str().unwrap();
        let ours = ChatTemplate::jinja(source).and_then(|t| t.render(&conversation)).map(|r| r.prompt());
        match (&ours, case["output"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => {}
            (Err(_), None) => {}
            (ours, expected) => wrong.push(format!("{source:?}\n   ours {ours:?}\n jinja2 {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Templates that would take all memory, all time or all stack: each ends in an error, and soon.
#[test]
fn hostile_templates_end_in_an_error() {
    let nested = |open: &str, close: &str, n: usize| format!("{}{}{}", open.repeat(n), "x", close.repeat(n));
    let templates = [
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}".to_owned(),
        format!("{{% set x = 'ab' %}}{}", "{% set x = x + x %}".repeat(60)),
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}".to_owned(),
        "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}".to_owned(),
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}".to_owned(),
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}".to_owned(),
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{% set a = ns.l == ns.l %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = ns %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = [ns] %}".to_owned(),
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% macro f(x) %}{{ f(x ~ x) }}{{ f(x ~ x) }}{% endmacro %}{{ f('ab') }}".to_owned(),
        "{{ 'a' * 1000000000000 }}".to_owned(),
        "{{ [[1] * 10000000] * 10000000 }}".to_owned(),
        "{{ range(1000000000)|list }}".to_owned(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}".to_owned(),
        "{{ ('a' * 1000000).replace('a', 'a' * 1000000) }}".to_owned(),
        "{{ ('a' * 1000000)|join('b' * 1000000) }}".to_owned(),
        "{{ [1]|tojson(indent=1000000000000) }}".to_owned(),
        "{{ 'a'|indent(1000000000000) }}".to_owned(),
        "{{ '%1000000000d' % 1 }}".to_owned(),
        "{{ '%.1000000000f' % 1 }}".to_owned(),
        format!("{{{{ 'a'|map({}) }}}}", "'map',".repeat(100_000)),
        format!("{{{{ {} }}}}", nested("(", ")", 100_000)),
        format!("{{{{ {} }}}}", nested("[", "]", 100_000)),
        format!("{{{{ {}x }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}x }}}}", "-".repeat(100_000)),
        format!("{{{{ x{} }}}}", ".y".repeat(100_000)),
        format!("{{{{ x{} }}}}", "+x".repeat(100_000)),
        format!("{{{{ x{} }}}}", "|trim".repeat(100_000)),
        format!("{{{{ x{} }}}}", " if x else x".repeat(50_000)),
        nested("{% if x %}", "{% endif %}", 50_000),
        format!("{}{}", "{% for x in y %}".repeat(30_000), "{{ x }}"),
        "x".repeat(2 << 20),
        "{{ messages[0].content[0:1] * 9223372036854775807 }}".to_owned(),
        "{{ 170141183460469231731687303715884105727 + 1 }}".to_owned(),
        "{{ -170141183460469231731687303715884105727 - 2 }}".to_owned(),
        "{{ 999999999999999999999999999999999999999 }}".to_owned(),
        "{{ 2 ** 127 }}".to_owned(),
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ [ns.l, ns.l]|sort }}".to_owned(),
        "{{ '%*d' % (1000000000, 1) }}".to_owned(),
        "{{ '{:1000000000}'.format(1) }}{{ '{:.1000000000f}'.format(1) }}".to_owned(),
        "{{ '{:{w}}'.format(1, w=1000000000) }}".to_owned(),
        "{{ 'a'|center(1000000000) }}".to_owned(),
        "{{ 'a'.zfill(1000000000) }}".to_owned(),
        "{{ [1]|slice(1000000000)|list }}".to_owned(),
        "{{ [1]|batch(1000000000, 'x')|list }}".to_owned(),
        "{% for x in range(99999) %}{% set y = 'x'|center(4096) %}{% endfor %}".to_owned(),
        "{% set ns = namespace(t=(1,)) %}{% for i in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}".to_owned(),
        "{% set ns = namespace(t=(1,)) %}{% for i in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {(1, 2): 1}.get(ns.t) ~ (ns.t in {(1, 2): 1}) }}{{ 1 / 0 }}".to_owned(),
        "{% set c = cycler(cycler(1)) %}".to_owned(),
        "{% set ns = namespace(c=cycler(1)) %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.j = joiner() %}".to_owned(),
        "{% for x in range(9) %}{{ loop.changed(loop) }}{% endfor %}".to_owned(),
        "{% set t = ([1] * 99999) %}{% set k = ((t|join, t|length) * 50000) %}{% set d = {k: 1} %}{% for x in range(99999) %}{% for y in range(99999) %}{% set z = d.get(k) %}{% endfor %}{% endfor %}".to_owned(),
        format!("{{% set {}a{} = 1 %}}", "(".repeat(100_000), ")".repeat(100_000)),
        "{% if".to_owned(),
        "{{ 'a".to_owned(),
        "{% for %}".to_owned(),
        "{% endif %}".to_owned(),
        "{{ }}".to_owned(),
        "{{ a b }}".to_owned(),
        "{{ x|nothing }}".to_owned(),
        "{{ x is nothing }}".to_owned(),
        "{% include 'file' %}".to_owned(),
    ];
    for source in templates {
        let shown: String = source.chars().take(120).collect();
        let began = Instant::now();
        // Half the stack that Rust gives a thread.
        let run = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
            let conversation = Conversation::new(vec![Message::new(Role::User, "hi")]);
            ChatTemplate::jinja(&source)
                .and_then(|template| template.render(&conversation))
                .map(|r| r.prompt().len())
        });
        let result = run.unwrap().join().unwrap();
        assert!(result.is_err(), "{shown}: {result:?}");
        println!("{:6.2} s  {shown}", began.elapsed().as_secs_f64());
        assert!(began.elapsed().as_secs() < 20, "{shown}");
    }
}

#[test]
fn not_every_odd_template_is_an_error() {
    for (source, prompt) in [
        ("{{ [float_nan, 1, float_nan, 0]|sort|length }}", "4"),
        ("{{ messages[0].content[5:-9] }}", ""),
        ("{{ (1 < 'nan'|float) }}", "False"),
        ("{% set a = ['nan'|float, 3, 'nan'|float, 1, 2] %}{{ a|sort|length }}", "5"),
        ("{% for c in messages[0].content %}{{ c }}.{% endfor %}", "h.i."),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("", ""),
    ] {
        let mut conversation = Conversation::new(vec![Message::new(Role::User, "hi")]);
        conversation.extra.insert("float_nan".to_owned(), json!(0.5));
        let rendered = ChatTemplate::jinja(source).unwrap().render(&conversation).unwrap();
        assert_eq!(rendered.prompt(), prompt, "{source}");
    }
}

#[test]
fn errors_name_the_line() {
    let render = |source: &str| {
        ChatTemplate::jinja(source).and_then(|t| t.render(&Conversation::new(Vec::new()))).unwrap_err()
    };
    assert!(matches!(render("a\nb\n{{ x.y }}"), ChatError::Template { line: 3, .. }));
    assert!(matches!(
        render("a\n{% if x %}\n{{ 1 + 'a' }}\n{% endif %}{{ nothing.at.all }}"),
        ChatError::Template { line: 4, .. }
    ));
    assert!(matches!(render("\n{{ (1 }}"), ChatError::Syntax { line: 2, .. }));
    assert!(
        matches!(render("{{ raise_exception('roles must alternate') }}"), ChatError::Refused(why) if why == "roles must alternate")
    );
}

/// Every message is one line of at most 300 characters with a line of the template, whatever stands in it.
#[test]
fn errors_are_short_and_have_a_line() {
    let long = "\u{1b}[2Jx\n".repeat(1 << 16);
    let quoted = long.replace('\n', "\\n");
    let conversation = Conversation::new(vec![Message::new(Role::User, long.clone())]);
    for source in [
        format!("{{{{ {} }}}}", "x".repeat(1 << 19)),
        format!("{{{{ {}.y }}}}", "x".repeat(1 << 19)),
        format!("{{{{ x|{} }}}}", "x".repeat(1 << 19)),
        format!("{{{{ x is {} }}}}", "x".repeat(1 << 19)),
        format!("{{% {} %}}", "x".repeat(1 << 19)),
        format!("{{{{ {} }}}}", "9".repeat(1 << 19)),
        format!("{{{{ raise_exception('{quoted}') }}}}"),
        format!("{{{{ '{quoted}'.{}() }}}}", "x".repeat(1 << 18)),
        format!("{{{{ dict({}=1)|tojson({}=2) }}}}", "x".repeat(1 << 18), "y".repeat(1 << 18)),
        "{{ raise_exception(messages[0].content) }}".to_owned(),
        "{{ messages[0].content.format() }}{{ ('{' ~ messages[0].content ~ '}').format() }}".to_owned(),
        "{{ strftime_now('%' ~ messages[0].content) }}".to_owned(),
        "{{ [1]|map(messages[0].content)|list }}{{ [1]|select(messages[0].content)|list }}".to_owned(),
        "{% macro m() %}{% endmacro %}{{ m(**{messages[0].content: 1}) }}".to_owned(),
        "{{ dict(**{messages[0].content: 1})|tojson(**{messages[0].content: 1}) }}".to_owned(),
        "{{ '%(' ~ messages[0].content ~ ')s' % {} }}{{ ('%(' ~ messages[0].content ~ ')s') % {} }}"
            .to_owned(),
        "{{ }}".to_owned(),
        "{% %}".to_owned(),
        "a\n{% if true %}".to_owned(),
        "{% for x in messages %}".to_owned(),
        "x".repeat(2 << 20),
        format!("{}x{}", "{% if true %}".repeat(200), "{% endif %}".repeat(200)),
        format!("{{% for a in range(99999) %}}{}{{% endfor %}}", "x".repeat(1 << 19)),
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        "{% set a, b = messages %}".to_owned(),
        "{% set x.y = 1 %}".to_owned(),
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}".to_owned(),
        "{% filter indent(99999) %}{% endfilter %}".to_owned(),
    ] {
        let result = ChatTemplate::jinja(&source).and_then(|template| template.render(&conversation));
        let Err(error) = result else { continue };
        let shown = error.to_string();
        let beginning: String = source.chars().take(80).collect();
        assert!(shown.chars().count() <= 300 && !shown.contains(char::is_control), "{beginning}: {shown}");
        assert!(shown.contains("line ") || matches!(error, ChatError::Refused(_)), "{beginning}: {shown}");
        assert!(!shown.contains("line 0"), "{beginning}: {shown}");
    }
}

/// Through every operation that a template can do to a text, what came from outside stays from outside.
#[test]
fn origin_survives_every_operation() {
    for source in [
        "{{ messages[0].content }}",
        "{{ messages[0]['content']|trim }}",
        "{{ messages[0].content.strip().split('|')|join('|') }}",
        "{{ messages[0].content[:3] ~ messages[0].content[3:] }}",
        "{% for c in messages[0].content %}{{ c }}{% endfor %}",
        "{{ messages[0].content|list|join }}",
        "{{ messages[0].content.replace('z', 'z') }}",
        "{{ '%s' % messages[0].content }}{{ '{}'.format(messages[0].content) }}",
        "{{ messages[0]|tojson }}",
        "{{ messages[0] }}",
        "{{ messages[0].content|upper|lower }}",
        "{{ messages[0].content|reverse|reverse }}",
        "{{ messages[0].content[::-1][::-1] }}",
        "{{ messages[0].content.partition('z')|join }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(messages[0].content) }}{% set y = m(messages[0].content) %}{{ y }}",
        "{% set x %}{{ messages[0].content }}{% endset %}{{ x }}",
        "{% filter trim %}{{ messages[0].content }}{% endfilter %}",
        "{{ messages|map(attribute='content')|join }}",
        "{{ messages|selectattr('role', 'eq', 'user')|map(attribute='content')|first }}",
        "{{ messages[0].content|indent(2) }}{{ messages[0].content|default('x') }}{{ messages[0].content|string }}",
        "{{ {messages[0].content: 1} }}{{ [messages[0].content] }}{{ dict(a=messages[0].content).a }}",
        "{% set ns = namespace(x=messages[0].content) %}{{ ns.x }}",
        "{{ messages[0].content|sort|join }}{{ messages[0].content.splitlines()|first }}",
        "{{ messages[0].content|escape }}{{ messages[0].content.removeprefix('x') }}{{ messages[0].content.title() }}",
        "{{ messages[0].content * 2 }}{{ 2 * messages[0].content }}{{ messages[0].content + '' }}",
        "{{ '%10s|%-10s|%.3s' % (messages[0].content, messages[0].content, messages[0].content) }}",
        "{{ '{:>20}{!s:^20}{0[0]}'.format(messages[0].content, messages[0].content) }}",
        "{{ messages[0].content|center(20) }}{{ messages[0].content.ljust(20) }}{{ messages[0].content.zfill(20) }}",
        "{{ (messages[0].content ~ ' b c d e f')|truncate(9, leeway=0) }}{{ messages[0].content|batch(2)|map('join')|join }}",
        "{{ messages[0].content|slice(2)|map('join')|join }}{{ joiner(messages[0].content)() }}{{ cycler(messages[0].content).next() }}",
        "{% set j = joiner(messages[0].content) %}{{ j() }}{{ j() }}{{ {1: messages[0].content}[1] }}{{ {(messages[0].content,): 1} }}",
        "{% for a, (b, c) in [(1, (messages[0].content, 2))] %}{{ b }}{% endfor %}{{ messages[0].content.swapcase() }}",
        "{{ extra.a }}{{ extra|items|first|first }}{{ extra|tojson(indent=2) }}{{ tools }}{{ tools[0]|tojson }}",
    ] {
        let mut conversation = Conversation::new(vec![Message::new(Role::User, "<|zap|>")]);
        conversation.extra = json!({"extra": {"a": "<|zap|>", "<|zap|>": 1}}).as_object().unwrap().clone();
        conversation.tools = vec![json!({"name": "<|zap|>"})];
        let rendered = ChatTemplate::jinja(source).unwrap().render(&conversation).unwrap();
        let trusted: String = rendered
            .segments()
            .iter()
            .map(|segment| match segment {
                Segment::Trusted(text) => text.as_ref(),
                _ => "\u{0}",
            })
            .collect();
        for part in ["zap", "|z", "p|", "<|", "|>"] {
            assert!(!trusted.to_lowercase().contains(part), "{source}: {trusted:?}");
        }
    }
}

/// The limits are for what no conversation needs.
#[test]
fn long_conversations_pass() {
    let source = "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 -%}{% endif %}{% endfor %}\
        {%- macro text(c) -%}{%- if c is string -%}{{ c }}{%- endif -%}{%- endmacro -%}\
        {% for m in messages %}{% set c = text(m.content) %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}\
        <|{{ m.role }}|>{{ c.strip() }}{% if loop.index0 > 0 and messages[loop.index0 - 1].role == m.role %}!{% endif %}{% endfor %}";
    let template = ChatTemplate::jinja(source).unwrap();
    let many: Vec<Message> = (0..20_000)
        .map(|i| Message::new([Role::User, Role::Assistant][i % 2], format!(" message {i} ")))
        .collect();
    let long = vec![Message::new(Role::User, "长文本 long text ".repeat(400_000))];
    for messages in [many, long] {
        let began = Instant::now();
        let prompt = template.render(&Conversation::new(messages)).unwrap().prompt();
        println!("{:5.2} s for {} bytes", began.elapsed().as_secs_f64(), prompt.len());
    }
}
