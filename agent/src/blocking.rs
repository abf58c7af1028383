//! Work that may block, away from the runtime's only thread. Each piece has a thread of its own: tokio's
//! `spawn_blocking` panics when the kernel has none to give, and a panic of PID 1 is the end of the guest.

use std::io;
use std::thread;

use tokio::sync::oneshot;
use tonic::Status;

/// What is done here calls no deeper than this.
const STACK_BYTES: usize = 256 * 1024;

/// Does `work` on a thread called `name`, which the guest's process list shows.
pub async fn run<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let done = spawn(name, STACK_BYTES, work)
        .map_err(|error| Status::resource_exhausted(format!("start a thread to {name}: {error}")))?;
    done.await.map_err(|_| Status::internal(format!("the thread to {name} has ended without an answer")))
}

fn spawn<T: Send + 'static>(
    name: &str,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (answer, done) = oneshot::channel();
    thread::Builder::new().name(name.into()).stack_size(stack_bytes).spawn(move || {
        // The caller may have gone.
        let _ = answer.send(work());
    })?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_a_named_thread() {
        let name = run("look around", || thread::current().name().map(str::to_owned)).await;
        assert_eq!(name.unwrap().as_deref(), Some("look around"));
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_an_error() {
        // No address space has room for it: the kernel refuses as it does when there are too many threads.
        let refused = spawn("too much", 1 << 50, || ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
    }
}
