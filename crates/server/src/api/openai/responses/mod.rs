//! `/v1/responses`: the OpenAI API's conversations as items, which the server keeps for those who go on with them.
//!
//! | file | holds |
//! |---|---|
//! | `ids` | ids, which say where an item is |
//! | `input`, `tools` | items -> messages; flat and custom tools -> functions |
//! | `frame` | the response as it was asked for, and as it ends |
//! | `output` | an answer's parts -> items |
//! | `history` | items and the responses before them -> a conversation |
//! | `request` | every other field -> what is asked of a model |
//! | `answering`, `stream` | an answer that is being made, and its events |
//! | `routes` | the paths |

mod answering;
mod frame;
mod history;
mod ids;
mod input;
mod output;
mod request;
pub(crate) mod routes;
mod stream;
mod tools;
