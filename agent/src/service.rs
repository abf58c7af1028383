//! The gRPC service on vsock port 1024, for the host alone.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

use crate::attach;
use crate::blocking;
use crate::clock_sync;
use crate::copy;
use crate::exec;
use crate::freeze::FreezeError;
use crate::guest::{Guest, GuestError, ShutdownOrder};
use crate::memory_limit::MemoryLimitError;
use crate::processes;
use crate::proto::agent_service_server::{AgentService, AgentServiceServer};
use crate::proto::{
    AttachRequest, AttachResponse, CopyInRequest, CopyInResponse, CopyOutRequest, CopyOutResponse,
    ExecRequest, ExecResponse, FreezeRequest, FreezeResponse, InputRequest, InputResponse, Phase,
    PingRequest, PingResponse, ProcessesRequest, ProcessesResponse, ResizeRequest, ResizeResponse,
    ShutdownRequest, ShutdownResponse, SignalRequest, SignalResponse, StatPathRequest, StatPathResponse,
    StatsRequest, StatsResponse, ThawRequest, ThawResponse, UpdateRequest, UpdateResponse, WaitRequest,
    WaitResponse,
};
use crate::resources::{self, UpdateError};
use crate::stats;

const PORT: u32 = 1024;
/// Each connection costs buffers in a guest that may have little memory.
const MAX_CONNECTIONS: usize = 32;
const MAX_STREAMS: u32 = 64;
const MAX_PROCESSES: usize = 128;
/// An environment may be large; nothing else is.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
const WINDOW_BYTES: u32 = 256 * 1024;
/// How long callers have to take their last answers before the guest is gone.
const FAREWELL: Duration = Duration::from_millis(500);

/// Sees every call before it is served.
type Interceptor = fn(Request<()>) -> Result<Request<()>, Status>;

/// Takes the port, before the workload could. `None` in a guest without vsock.
pub fn bind() -> Option<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, PORT)).ok()
}

/// The running service.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    /// Ends when every connection has given back its sender.
    connections: mpsc::Receiver<Infallible>,
}

impl Server {
    pub fn start(listener: VsockListener, guest: Arc<Guest>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (alive, connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, guest, stopping, alive));
        Self { stop, connections }
    }

    /// Lets the calls under way finish, then closes: a client that has closed in turn has read everything.
    pub async fn finish(mut self) {
        self.stop.send_replace(true);
        // Nothing is ever sent; past the deadline whoever is left is cut off.
        let _ = timeout(FAREWELL, self.connections.recv()).await;
    }
}

async fn accept(
    listener: VsockListener,
    guest: Arc<Guest>,
    mut stopping: watch::Receiver<bool>,
    alive: mpsc::Sender<Infallible>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let server =
        AgentServiceServer::new(Service { guest, processes: Arc::new(Semaphore::new(MAX_PROCESSES)) })
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let service = InterceptedService::new(server, clock_sync::hear as Interceptor);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => return,
        };
        let Ok((stream, address)) = accepted else {
            // Out of descriptors, say: not a reason to spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // The workload can open vsock connections too, from the guest's own address.
        if address.cid() != VMADDR_CID_HOST {
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let (service, stopping, alive) = (service.clone(), stopping.clone(), alive.clone());
        tokio::spawn(async move {
            // A connection that ends in an error concerns its client, who knows.
            let _ = serve_connection(stream, service, stopping).await;
            drop((slot, alive));
        });
    }
}

async fn serve_connection(
    stream: VsockStream,
    service: InterceptedService<AgentServiceServer<Service>, Interceptor>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 4)
        .max_send_buf_size(WINDOW_BYTES as usize)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        _ = stopping.wait_for(|&stop| stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

#[derive(Debug, Clone)]
struct Service {
    guest: Arc<Guest>,
    processes: Arc<Semaphore>,
}

impl Service {
    /// Leave to start one more process.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.processes)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted(format!("{MAX_PROCESSES} processes are being served")))
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type CopyOutStream = ReceiverStream<Result<CopyOutResponse, Status>>;
    type ExecStream = ReceiverStream<Result<ExecResponse, Status>>;
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn ping(&self, _request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            status: Some(self.guest.status.current()),
        }))
    }

    async fn wait(&self, _request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let mut updates = self.guest.status.subscribe();
        let ended = updates.wait_for(|status| matches!(status.phase(), Phase::Exited | Phase::Failed));
        let status = ended.await.map_err(io::Error::other)?.clone();
        Ok(Response::new(WaitResponse { status: Some(status) }))
    }

    async fn signal(&self, request: Request<SignalRequest>) -> Result<Response<SignalResponse>, Status> {
        self.guest.signal_workload(signal_number(request.get_ref().signal)?)?;
        Ok(Response::new(SignalResponse {}))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let permit = self.permit()?;
        let (answers, stream) = mpsc::channel(exec::ANSWERS_IN_FLIGHT);
        let guest = Arc::clone(&self.guest);
        tokio::spawn(async move {
            exec::serve(guest, request.into_inner(), answers).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let attachable = self.guest.attachable()?;
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(attach::serve(attachable, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn input(
        &self,
        request: Request<Streaming<InputRequest>>,
    ) -> Result<Response<InputResponse>, Status> {
        self.guest.attachable()?.write_input(request.into_inner()).await?;
        Ok(Response::new(InputResponse {}))
    }

    async fn resize(&self, request: Request<ResizeRequest>) -> Result<Response<ResizeResponse>, Status> {
        self.guest.attachable()?.resize(&request.into_inner().size.unwrap_or_default())?;
        Ok(Response::new(ResizeResponse {}))
    }

    async fn freeze(&self, request: Request<FreezeRequest>) -> Result<Response<FreezeResponse>, Status> {
        let limit = Duration::from_millis(request.get_ref().limit_ms);
        self.guest.freezer.freeze(limit).await?;
        Ok(Response::new(FreezeResponse {}))
    }

    async fn thaw(&self, _request: Request<ThawRequest>) -> Result<Response<ThawResponse>, Status> {
        Ok(Response::new(ThawResponse { expired: !self.guest.freezer.thaw() }))
    }

    async fn stats(&self, _request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        Ok(Response::new(stats::read()))
    }

    async fn processes(
        &self,
        _request: Request<ProcessesRequest>,
    ) -> Result<Response<ProcessesResponse>, Status> {
        Ok(Response::new(blocking::run("list processes", processes::list).await?))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        let change = request.into_inner().change.unwrap_or_default();
        let guest = Arc::clone(&self.guest);
        let update = move || resources::update(guest.world.cgroup.as_ref(), &change);
        blocking::run("change limits", update).await??;
        Ok(Response::new(UpdateResponse {}))
    }

    async fn stat_path(
        &self,
        request: Request<StatPathRequest>,
    ) -> Result<Response<StatPathResponse>, Status> {
        let _permit = self.permit()?;
        copy::stat_path(&self.guest, request.into_inner()).await.map(Response::new)
    }

    async fn copy_out(
        &self,
        request: Request<CopyOutRequest>,
    ) -> Result<Response<Self::CopyOutStream>, Status> {
        let permit = self.permit()?;
        let (answers, stream) = mpsc::channel(copy::ANSWERS_IN_FLIGHT);
        let guest = Arc::clone(&self.guest);
        tokio::spawn(async move {
            copy::serve_out(guest, request.into_inner(), answers).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn copy_in(
        &self,
        request: Request<Streaming<CopyInRequest>>,
    ) -> Result<Response<CopyInResponse>, Status> {
        let _permit = self.permit()?;
        copy::serve_in(&self.guest, request.into_inner()).await.map(Response::new)
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let request = request.get_ref();
        self.guest.order_shutdown(ShutdownOrder {
            signal: signal_number(request.signal)?,
            grace_ms: request.grace_ms,
        });
        Ok(Response::new(ShutdownResponse {}))
    }
}

fn signal_number(number: u32) -> Result<i32, Status> {
    i32::try_from(number)
        .ok()
        .filter(|number| (0..=64).contains(number))
        .ok_or_else(|| Status::invalid_argument(format!("{number} is not a signal")))
}

impl From<FreezeError> for Status {
    fn from(error: FreezeError) -> Self {
        match error {
            FreezeError::Frozen | FreezeError::Freezing | FreezeError::GivenUp | FreezeError::Ending => {
                Self::failed_precondition(error.to_string())
            }
            FreezeError::Stuck(_) => Self::deadline_exceeded(error.to_string()),
            FreezeError::Thread(_) => Self::resource_exhausted(error.to_string()),
            FreezeError::Agent(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<UpdateError> for Status {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Missing(_) => Self::unimplemented(error.to_string()),
            UpdateError::Memory(MemoryLimitError::InUse { .. }) => {
                Self::failed_precondition(error.to_string())
            }
            UpdateError::Memory(MemoryLimitError::TooLittle { .. }) => {
                Self::invalid_argument(error.to_string())
            }
            UpdateError::Memory(MemoryLimitError::Io(_)) | UpdateError::Agent(_) => {
                Self::internal(error.to_string())
            }
        }
    }
}

impl From<GuestError> for Status {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::NotRunning => Self::failed_precondition(error.to_string()),
            GuestError::Signal(_) => Self::invalid_argument(error.to_string()),
            GuestError::Agent(_) => Self::internal(error.to_string()),
        }
    }
}
