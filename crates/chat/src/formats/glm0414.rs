//! GLM-4-0414, GLM-Z1-0414 and Z1-Rumination.
//!
//! Source: the models' chat templates; Rumination's system prompt as ms-swift's `glm.py` records it. Tools come
//! first, then every system message wherever it stood, then the rest in order. Z1 forgets its reasoning: of each
//! message only what follows the last `</think>` is kept, and its reply is opened with `<think>`, which is plain
//! text to these tokenizers.

use super::tools;
use crate::error::ChatError;
use crate::message::{Conversation, Message, Role, ToolCall};
use crate::python;
use crate::rendered::Prompt;
use crate::reply::THINK_TAGS;
use serde_json::Value;

/// GLM-4-0414.
pub(super) fn chat(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    begin(prompt);
    let tools = tools::of_conversation(conversation);
    if !tools.is_empty() {
        prompt.special("<|system|>");
        prompt.trusted("\n# 可用工具\n");
        define_tools(prompt, &tools)?;
    }
    system_messages(prompt, conversation);
    other_messages(prompt, conversation, |content| content);
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
    }
    Ok(())
}

/// GLM-Z1-0414.
pub(super) fn z1(prompt: &mut Prompt, conversation: &Conversation) -> Result<(), ChatError> {
    begin(prompt);
    let tools = tools::of_conversation(conversation);
    if !tools.is_empty() {
        prompt.special("<|system|>");
        prompt.trusted(
            "\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，\
             你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具",
        );
        define_tools(prompt, &tools)?;
    }
    system_messages(prompt, conversation);
    other_messages(prompt, conversation, after_thinking);
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
        prompt.trusted("\n<think>");
    }
    Ok(())
}

/// GLM-Z1-Rumination, which knows one system prompt and four tools, whatever the caller brings.
pub(super) fn rumination(prompt: &mut Prompt, conversation: &Conversation) {
    begin(prompt);
    prompt.special("<|system|>");
    prompt.trusted("\n");
    prompt.trusted(RUMINATION_OPENING);
    prompt.trusted(format!("今年是 {} 年。\n\n", conversation.year.unwrap_or(2025)));
    prompt.trusted(RUMINATION_TASK);
    other_messages(prompt, conversation, |content| content);
    if conversation.add_generation_prompt {
        prompt.special("<|assistant|>");
    }
}

fn begin(prompt: &mut Prompt) {
    prompt.special("[gMASK]");
    prompt.special("<sop>");
}

fn define_tools(prompt: &mut Prompt, tools: &[&Value]) -> Result<(), ChatError> {
    for (i, tool) in tools.iter().enumerate() {
        let function = tools::function(i, tool)?;
        prompt.trusted("\n");
        tools::define_function(prompt, function);
    }
    Ok(())
}

fn system_messages(prompt: &mut Prompt, conversation: &Conversation) {
    for message in conversation.messages.iter().filter(|message| message.role == Role::System) {
        prompt.special("<|system|>");
        prompt.trusted("\n");
        prompt.user(&message.content);
    }
}

fn other_messages(prompt: &mut Prompt, conversation: &Conversation, shown: fn(&str) -> &str) {
    for message in conversation.messages.iter().filter(|message| message.role != Role::System) {
        for message in tools::assistant_messages(message, ToolCall::arguments_text) {
            prompt.special(tools::role_token(message.role));
            if message.role == Role::Assistant {
                prompt.user(message.metadata.as_deref().unwrap_or(""));
            }
            prompt.trusted("\n");
            prompt.user(shown(&text(&message)));
        }
    }
}

fn text(message: &Message) -> String {
    if message.role == Role::Observation { message.observed() } else { message.content.clone() }
}

fn after_thinking(content: &str) -> &str {
    python::strip(content.rsplit(THINK_TAGS[1]).next().unwrap_or(content))
}

const RUMINATION_OPENING: &str =
    "你是一个专业的深度研究助手，通过提供的工具与模拟浏览器交互，来帮助用户完成深度信息调研和报告撰写任务。";

const RUMINATION_TASK: &str = r#"<核心要求>
- 首先分解用户请求，得到包含多个子要求的列表
- 制定初始研究计划
- 进行多轮迭代搜索和页面浏览（at least 10 function calls）：
    * 根据已获得的信息调整研究计划和关键词
    * 打开页面阅读，从发现的内容中识别新的关键概念/名词
    * 从搜索结果中提取新的关键词继续搜索
    * 访问并仔细阅读相关页面，识别新的关键概念/名词

<重要配置>
- 采用语言
    * 搜索关键词：英语
    * 思考：英语

<可调用的工具列表>

[{"name": "search", "description": "Execute a search query and return search results. Use this function when you need to find information about a specific topic.", "parameters": {"type": "object", "properties": {"query": {"type": "string", "description": "Search query string, use English words unless it is a proper name in Chinese"}}, "required": ["query"], "additionalProperties": false}}, {"name": "click", "description": "Click a link in the search results and navigate to the corresponding page. Use this function when you need to view detailed content of a specific search result.", "parameters": {"type": "object", "properties": {"link_id": {"type": "integer", "description": "The link ID to click (from the sequence number in search results)"}}, "required": ["link_id"], "additionalProperties": false}}, {"name": "open", "description": "Open a specific website. Get content from any website with its URL.", "parameters": {"type": "object", "properties": {"url": {"type": "string", "description": "The target website URL or domain"}}, "required": ["url"], "additionalProperties": false}}, {"name": "finish", "description": "Finish the task. Use this function when you have found the information you need.", "parameters": {"type": "object", "properties": {}, "additionalProperties": false}}]"#;
