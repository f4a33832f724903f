//! GLM-4-9B-Chat (also -1M and -hf) and the text part of GLM-4V-9B.
//!
//! Source: the models' chat template and, for GLM-4V, `tokenization_chatglm.py`. A message without content leaves
//! no trace, not even its role, unless it is the result of a call in OpenAI's form. OpenAI's ways are put into the
//! format's own: tools for the whole conversation become a leading tools block, a tool call a message with the tool's
//! name on the role's line.

use super::tools;
use crate::error::ChatError;
use crate::message::{Conversation, Message, Role, ToolCall};
use crate::rendered::Prompt;
use crate::sight::Medium;
use serde_json::Value;

/// GLM-4-9B-Chat, whose text is rendered first and tokenised then.
pub(super) fn chat(prompt: &mut Prompt, conversation: &Conversation, name: &str) -> Result<(), ChatError> {
    prompt.special("[gMASK]");
    prompt.special("<sop>");
    if !conversation.tools.is_empty() {
        tools_block(prompt, &conversation.tools, name)?;
    }
    let mut results = Results::default();
    for message in &conversation.messages {
        let is_result = results.holds(message);
        if let Some(tools) = &message.tools {
            tools_block(prompt, tools, name)?;
        }
        for message in tools::assistant_messages(message, ToolCall::arguments_text) {
            let content = text(&message);
            if !content.is_empty() || is_result {
                prompt.special(tools::role_token(message.role));
                prompt.user(message.metadata.as_deref().unwrap_or(""));
                prompt.trusted("\n");
                prompt.user(&content);
            }
        }
    }
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
    }
    Ok(())
}

/// GLM-4V-9B, built message by message: the metadata line, the picture's three tokens and the text are encoded
/// apart. At most one picture in a conversation; its rows take the place of all three tokens.
pub(super) fn vision(prompt: &mut Prompt, conversation: &Conversation, name: &str) -> Result<(), ChatError> {
    prompt.special("[gMASK]");
    prompt.special("<sop>");
    if !conversation.tools.is_empty() {
        vision_tools_block(prompt, &conversation.tools, name)?;
    }
    let mut images = 0;
    let mut results = Results::default();
    for (index, message) in conversation.messages.iter().enumerate() {
        if let Some(tools) = message.tools.as_ref().filter(|tools| !tools.is_empty()) {
            vision_tools_block(prompt, tools, name)?;
        }
        let is_result = results.holds(message);
        images += message.images.len();
        if images > 1 {
            let what = "glm-4v takes at most one picture in a conversation".to_owned();
            return Err(ChatError::Message { index, what });
        }
        if message.sights().any(|sight| sight.medium == Medium::Video) {
            return Err(ChatError::Message { index, what: "glm-4v takes pictures, no videos".to_owned() });
        }
        for message in tools::assistant_messages(message, ToolCall::arguments_text) {
            let content = text(&message);
            if content.is_empty() && message.images.is_empty() && !is_result {
                continue;
            }
            prompt.special(tools::role_token(message.role));
            prompt.user(message.metadata.as_deref().unwrap_or(""));
            prompt.trusted("\n");
            prompt.boundary();
            if !message.images.is_empty() {
                prompt.picture(0, "<|begin_of_image|><|endoftext|><|end_of_image|>");
            }
            prompt.user(&content);
        }
    }
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
    }
    Ok(())
}

/// Tells the results of calls in OpenAI's form, which the template does not know: they have their place though they be
/// empty.
#[derive(Default)]
struct Results {
    follow: bool,
}

impl Results {
    /// Whether the next message is one.
    fn holds(&mut self, message: &Message) -> bool {
        if message.role != Role::Observation {
            self.follow = !message.tool_calls.is_empty();
        }
        self.follow && message.role == Role::Observation
    }
}

fn text(message: &Message) -> String {
    if message.role == Role::Observation { message.observed() } else { message.content.clone() }
}

/// The block that introduces the model and its tools. One newline stands before each `##`, because the
/// template's `trim_blocks` takes the other.
fn tools_block(prompt: &mut Prompt, tools: &[Value], name: &str) -> Result<(), ChatError> {
    prompt.special("<|system|>");
    prompt.trusted("\n");
    introduce(prompt, name);
    prompt.trusted("\n\n# 可用工具");
    define_tools(prompt, tools, "\n")
}

/// GLM-4V's: no heading, and both newlines, since it is written by Python.
fn vision_tools_block(prompt: &mut Prompt, tools: &[Value], name: &str) -> Result<(), ChatError> {
    prompt.special("<|system|>");
    prompt.trusted("\n");
    prompt.boundary();
    introduce(prompt, name);
    define_tools(prompt, tools, "\n\n")
}

fn introduce(prompt: &mut Prompt, name: &str) {
    prompt.trusted("你是一个名为 ");
    prompt.user(name);
    prompt.trusted(
        " 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，\
         你的任务是针对用户的问题和要求提供适当的答复和支持。",
    );
}

/// Functions by their definition, built-in tools by the paragraph that the model was trained with. A type that the
/// template does not know is passed over, as it does.
fn define_tools(prompt: &mut Prompt, tools: &[Value], separator: &'static str) -> Result<(), ChatError> {
    for (i, tool) in tools.iter().enumerate() {
        let kind = match tool.get("type") {
            None => "function",
            Some(kind) => kind.as_str().unwrap_or(""),
        };
        let builtin = match kind {
            "function" => {
                let function = tools::function(i, tool)?;
                prompt.trusted(separator);
                tools::define_function(prompt, function);
                continue;
            }
            "python" => PYTHON,
            "simple_browser" => SIMPLE_BROWSER,
            "cogview" => COGVIEW,
            _ => continue,
        };
        prompt.trusted(separator);
        prompt.trusted(builtin);
    }
    Ok(())
}

const PYTHON: &str = "## python\n
当你向 `python` 发送包含 Python 代码的消息时，该代码将会在一个有状态的 Jupyter notebook 环境中执行。
`python` 返回代码执行的输出，或在执行 60 秒后返回超时。
`/mnt/data` 将会持久化存储你的文件。在此会话中，`python` 无法访问互联网。不要使用 `python` 进行任何网络请求或者在线 API \
调用，这些在线内容的访问将不会成功。";

const SIMPLE_BROWSER: &str = "## simple_browser\n
你可以使用 `simple_browser` 工具。该工具支持以下函数：
`search(query: str, recency_days: int)`：使用搜索引擎进行查询并显示结果，可以使用 `recency_days` 参数控制搜索内容的时效性。
`mclick(ids: list[int])`：获取一系列指定 id 的页面内容。每次调用时，须选择3-10个页面。\
选择多个角度的页面，同时尽可能选择可信任的信息来源。考虑到部分页面是无法加载的，你也可以多打开一些可能有用的页面而不用担心内容过多。
`open_url(url: str)`：打开指定的 URL。

使用 `【{引用 id}†{引用文本}】` 来引用内容。

操作步骤：1. 使用 `search` 来获得信息列表; 2. 使用 `mclick` 来获取指定 ID 页面的内容; 3. 根据获得的内容进行回复。\
在回复中应当引用信息来源。
 如果用户提供了 URL，也可以用 `open_url` 直接打开页面。
如果初次搜索结果没有找到合适的信息，也可以再次使用 `search` 进行搜索。";

const COGVIEW: &str = "## cogview\n
如果用户的请求中包含了对图像的描述，你可以使用 `cogview` 来生成图像并展示给用户。你需要向 `cogview` 发送图像描述，规则：
- 发送给 `cogview` 的消息必须使用英语。用户的中文描述必须完全翻译为英语。
- 应当尽可能详细地描述图像生成的需求，需求描述约 100 英文单词。
- 保持用户原始描述的意图。不要虚构内容或者没见过的人物。
- 如无特殊说明，所在地为中国，持有中国立场并遵循中国社会主义价值观。";
