//! The thread that computes masks while the model computes.

use std::sync::mpsc::{Sender, channel};

use crate::constraint::Shared;

/// The thread. It ends when this is dropped. Nobody waits for it: a mask that it has not begun when a token is chosen is
/// computed there, since on a busy machine a thread may be long in coming.
pub(crate) struct Masks {
    orders: Sender<Vec<Shared>>,
}

impl Masks {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (orders, wanted) = channel::<Vec<Shared>>();
        std::thread::Builder::new().name("masks".to_owned()).spawn(move || {
            wanted.into_iter().flatten().for_each(|own| own.lock().prepare());
        })?;
        Ok(Masks { orders })
    }

    /// Has the masks of these answers computed.
    pub(crate) fn order(&self, answers: Vec<Shared>) {
        // Where the thread is gone, they are computed when they are needed.
        let _ = self.orders.send(answers);
    }
}
