//! Running programs in a node.

use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::process::{Child, Command};

use super::command::{CommandError, describe};
use super::error::LocalError;
use super::{Local, paths};
use crate::driver::{ExecIo, NodeId};

impl Local {
    pub(super) async fn exec_in_node(
        &self,
        node: &NodeId,
        program: &[String],
        io: ExecIo<'_>,
    ) -> Result<i32, LocalError> {
        paths::check_node(node)?;
        let runc = self.runc(&node.cluster)?;
        if !runc.knows(&node.name) {
            return Err(LocalError::NotRunning(node.name.clone()));
        }
        let status = match io {
            ExecIo::Terminal => {
                let mut command = runc.exec(&node.name, true, program);
                spawn(&mut command)?.wait().await.map_err(talk(&command))?
            }
            ExecIo::Streams { stdin, stdout, stderr } => {
                let mut command = runc.exec(&node.name, false, program);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let child = spawn(&mut command)?;
                stream(child, stdin, stdout, stderr).await.map_err(talk(&command))?
            }
        };
        Ok(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1))
    }
}

fn spawn(command: &mut Command) -> Result<Child, CommandError> {
    let spawned = command.kill_on_drop(true).spawn();
    spawned.map_err(|source| CommandError::Start { command: describe(command), source })
}

fn talk(command: &Command) -> impl FnOnce(std::io::Error) -> CommandError {
    let command = describe(command);
    move |source| CommandError::Talk { command, source }
}

/// Feeds a program and takes what it says until it ends, whether it has read all of its input or
/// not.
async fn stream(
    mut child: Child,
    stdin: &mut (dyn AsyncRead + Send + Unpin),
    stdout: &mut (dyn AsyncWrite + Send + Unpin),
    stderr: &mut (dyn AsyncWrite + Send + Unpin),
) -> std::io::Result<ExitStatus> {
    let (input, output, complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut feed = pin!(async {
        let Some(mut input) = input else { return Ok(()) };
        match copy(stdin, &mut input).await {
            // It ended, or closed its input; its exit code says whether that was right.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error),
            Ok(_) => input.shutdown().await,
        }
    });
    let mut listen = pin!(async { tokio::try_join!(forward(output, stdout), forward(complaints, stderr)) });
    let mut input_is_over = false;
    loop {
        tokio::select! {
            result = &mut feed, if !input_is_over => {
                result?;
                input_is_over = true;
            }
            result = &mut listen => {
                result?;
                break;
            }
        }
    }
    child.wait().await
}

async fn forward(
    from: Option<impl AsyncRead + Unpin>,
    to: &mut (dyn AsyncWrite + Send + Unpin),
) -> std::io::Result<()> {
    if let Some(mut from) = from {
        copy(&mut from, to).await?;
    }
    to.flush().await
}
