//! The thread that computes masks while the model computes.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::constraint::Shared;

/// The thread. It ends when this is dropped.
pub(crate) struct Masks {
    orders: Sender<Vec<Shared>>,
    done: Receiver<()>,
}

impl Masks {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (orders, wanted) = channel::<Vec<Shared>>();
        let (finished, done) = channel();
        std::thread::Builder::new().name("masks".to_owned()).spawn(move || {
            for order in wanted {
                order.iter().for_each(|own| own.lock().prepare());
                // Whoever ordered them may have lost interest.
                let _ = finished.send(());
            }
        })?;
        Ok(Masks { orders, done })
    }

    /// Has the masks of these answers computed, of which there is at least one.
    pub(crate) fn order(&self, answers: Vec<Shared>) {
        let _ = self.orders.send(answers);
    }

    /// Waits for what was ordered. Masks that did not come are computed when they are needed.
    pub(crate) fn wait(&self) {
        let _ = self.done.recv();
    }
}
