//! Removes what the upload to a bucket left: the object, unfinished uploads, the import task with its snapshot.

use build_image_plugin_api::{Error, ErrorKind, Resource, Result};

use crate::{
    cloud::Cloud,
    discard::POLICY,
    ec2::{Ec2, Parameters, pairs},
    marks::MARK,
    permissions::Call,
    s3::Bucket,
};

/// Number of times an upload is aborted: parts in flight may outlive the first abort.
const ABORTS: usize = 3;

fn place(resource: &Resource) -> Result<(&str, &str)> {
    resource
        .name
        .split_once('/')
        .ok_or_else(|| Error::internal(format!("the bucket of {} is not known", resource.label())))
}

/// Deletes the object.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn object(cloud: &Cloud<'_>, region: &str, resource: &Resource) -> Result<()> {
    let (bucket, key) = place(resource)?;
    Ok(Bucket::open(cloud, bucket, region)?.delete(key, &POLICY).await?)
}

/// Aborts an upload, and every other upload of exactly this key: the key belongs to one run, and the answer that named
/// an upload may have been lost.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn multipart(cloud: &Cloud<'_>, region: &str, resource: &Resource) -> Result<()> {
    let (bucket, key) = place(resource)?;
    let bucket = Bucket::open(cloud, bucket, region)?;
    if let Some(id) = &resource.id {
        bucket.abort(key, id, &POLICY).await?;
    }
    for _ in 0..ABORTS {
        let listed = match bucket.uploads(key, &POLICY).await {
            // Not every user may list; known uploads are aborted nevertheless.
            Err(failure) if failure.error.kind == ErrorKind::Auth && resource.id.is_some() => {
                tracing::warn!(error = %failure.error, "further uploads cannot be looked for");
                Vec::new()
            }
            Err(failure) if failure.has_code(&["NoSuchBucket"]) => Vec::new(),
            listed => listed?,
        };
        if listed.is_empty() {
            break;
        }
        for id in &listed {
            bucket.abort(key, id, &POLICY).await?;
        }
    }
    Ok(())
}

/// Cancels the imports of a run, and deletes the snapshots of those that ended.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn import(ec2: &Ec2, run: &str) -> Result<()> {
    let mut ended = end_imports(ec2, run).await;
    if ended.as_ref().is_err_and(|error| error.context("code") == Some("IncorrectState")) {
        // A task ended between the look at it and its cancellation.
        ended = end_imports(ec2, run).await;
    }
    ended
}

async fn end_imports(ec2: &Ec2, run: &str) -> Result<()> {
    let tasks = ec2.imports(&Parameters::new(), &POLICY).await?.into_iter();
    for task in tasks.filter(|task| task.run().as_deref() == Some(run)) {
        let (id, detail) = (&task.import_task_id, &task.snapshot_task_detail);
        match detail.status.as_str() {
            "deleted" | "deleting" => {}
            "completed" => {
                if let Some(snapshot) = &detail.snapshot_id {
                    remove_imported(ec2, snapshot, run).await?;
                }
            }
            _ => {
                let parameters = pairs(&[("ImportTaskId", id)]);
                let object = format!("import `{id}`");
                ec2.call(Call::CancelImportTask, &parameters, &object, &POLICY).await?;
            }
        }
    }
    Ok(())
}

/// Deletes the snapshot of an import unless an image uses it, or it is another run's now.
async fn remove_imported(ec2: &Ec2, id: &str, run: &str) -> Result<()> {
    let Some(found) = ec2.snapshot(id, &POLICY).await? else { return Ok(()) };
    if found.tag(MARK).is_some_and(|mark| mark != run) {
        return Ok(());
    }
    ec2.delete_unused(id, &POLICY).await.map(drop)
}
