//! Uploads the disk to a bucket and imports it as a snapshot: for accounts that forbid EBS direct.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportSnapshot.html>.

use std::sync::atomic::{AtomicU64, Ordering};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{UploadRequest, Uploaded},
    retry::{Failure, Policy},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    attributes::{GIB, description},
    bucket::Parts,
    client::CALL,
    cloud::Cloud,
    config::Config,
    ec2::{Ec2, Items, Page, Parameters, pairs, tag_specifications},
    image::{Tag, map},
    marks::{self, MARK},
    names::object_key,
    owner::Owner,
    permissions::Call,
    refusal::{Refusal, refused_outright},
    s3::Bucket,
    snapshot::{self, Looks},
    state::{IMPORT, IMPORT_STATE, MULTIPART, OBJECT, token},
};

/// The upload and the import of a run, as the checkpoint stores them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    bucket: String,
    key: String,
    region: String,
    owner: Owner,
    /// Identity of the disk.
    disk: String,
    upload: Option<String>,
    /// The object is complete.
    complete: bool,
    task: Option<String>,
    snapshot: Option<String>,
}

/// An import task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Task {
    pub(crate) import_task_id: String,
    pub(crate) snapshot_task_detail: Detail,
    pub(crate) tag_set: Items<Tag>,
}

impl Task {
    /// Returns the run that started the import.
    pub(crate) fn run(&self) -> Option<String> {
        map(&self.tag_set).remove(MARK)
    }
}

/// The state of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Detail {
    /// `active`, `completed`, `deleting`, `deleted`.
    pub(crate) status: String,
    pub(crate) status_message: Option<String>,
    pub(crate) progress: Option<String>,
    pub(crate) snapshot_id: Option<String>,
    pub(crate) user_bucket: UserBucket,
}

/// Where the disk is imported from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct UserBucket {
    pub(crate) s3_bucket: String,
    pub(crate) s3_key: String,
}

#[derive(Deserialize)]
struct Tasks {
    #[serde(rename = "importSnapshotTaskSet", default)]
    tasks: Items<Task>,
    #[serde(rename = "nextToken")]
    next: Option<String>,
}

impl Page for Tasks {
    type Item = Task;

    fn take(self) -> (Vec<Task>, Option<String>) {
        (self.tasks.item, self.next)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    import_task_id: String,
}

impl Ec2 {
    /// Returns the import tasks that match: those with an id, or all. No filter knows tags.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn imports(
        &self,
        parameters: &Parameters,
        policy: &Policy,
    ) -> Result<Vec<Task>, Failure> {
        let call = Call::DescribeImportSnapshotTasks;
        self.list::<Tasks>(call, parameters, "the import", policy).await
    }
}

/// Returns the parameters of an import.
pub(crate) fn parameters(
    config: &Config,
    bucket: &str,
    key: &str,
    description: &str,
) -> Parameters {
    let mut all = pairs(&[
        ("Description", description),
        ("DiskContainer.Description", description),
        ("DiskContainer.Format", "VMDK"),
        ("DiskContainer.UserBucket.S3Bucket", bucket),
        ("DiskContainer.UserBucket.S3Key", key),
        ("RoleName", &config.role),
    ]);
    if config.encrypted {
        all.extend(pairs(&[("Encrypted", "true")]));
    }
    if let Some(key) = &config.kms_key {
        all.extend(pairs(&[("KmsKeyId", key)]));
    }
    all
}

/// Uploads and imports the disk of a build.
///
/// # Errors
/// Refusals, broken connections after several attempts, an import that failed.
pub(crate) async fn upload(
    context: &Context,
    cloud: &Cloud<'_>,
    request: &UploadRequest,
) -> Result<Uploaded> {
    let config = cloud.config;
    let now = Progress {
        bucket: config.bucket()?.to_owned(),
        key: object_key(config, &request.build.run_id),
        region: cloud.region.clone(),
        owner: Owner::now(cloud, &CALL).await?,
        disk: request.disk.identity.clone(),
        ..Progress::default()
    };
    let progress = match context.load::<Progress>(IMPORT_STATE)? {
        None => now,
        Some(earlier) => {
            now.owner.may_use(
                &format!("s3://{}/{} of this run", earlier.bucket, earlier.key),
                &earlier.owner,
            )?;
            let is_same = (&earlier.bucket, &earlier.key, &earlier.region, &earlier.disk)
                == (&now.bucket, &now.key, &now.region, &now.disk);
            // What cannot be used stays in the journal, and is removed with the run.
            if is_same { earlier } else { now }
        }
    };
    let bucket = Bucket::open(cloud, &progress.bucket, &progress.region)?;
    let ec2 = Ec2::open(cloud, &progress.region)?;
    let sent = AtomicU64::new(0);
    let mut job = Job { context, cloud, request, bucket, ec2, progress, sent };
    let snapshot = job.run().await?;
    let gib = request.disk.virtual_size.div_ceil(GIB).max(1);
    let facts = [("snapshot_id", json!(snapshot)), ("gib", json!(gib))];
    let location = format!("s3://{}/{}", job.progress.bucket, job.progress.key);
    Ok(Uploaded::new(location).bytes_sent(job.sent.load(Ordering::Relaxed)).facts(facts))
}

struct Job<'a> {
    context: &'a Context,
    cloud: &'a Cloud<'a>,
    request: &'a UploadRequest,
    bucket: Bucket,
    ec2: Ec2,
    progress: Progress,
    sent: AtomicU64,
}

impl Job<'_> {
    async fn run(&mut self) -> Result<String> {
        if let Some(id) = self.progress.snapshot.clone() {
            if self.ec2.snapshot(&id, &CALL).await?.is_some() {
                return Ok(id);
            }
            (self.progress.snapshot, self.progress.task) = (None, None);
        }
        if self.progress.task.is_none() {
            let there = self.progress.complete
                && self.bucket.size(&self.progress.key, &CALL).await?.is_some();
            if !there {
                self.progress.complete = false;
                self.send().await?;
            }
            self.start().await?;
        }
        self.finish().await
    }

    fn save(&self) -> Result<()> {
        self.context.save(IMPORT_STATE, &self.progress)
    }

    fn run_id(&self) -> &str {
        &self.request.build.run_id
    }

    /// Returns the resource of the object, or of its upload.
    fn stored(&self, kind: &str) -> Resource {
        let Progress { bucket, key, region, owner, .. } = &self.progress;
        let resource = Resource::new(kind, format!("{bucket}/{key}")).in_region(region);
        let resource = owner.mark(resource, self.run_id());
        let kept = kind == OBJECT && self.cloud.config.keep_object;
        if kept { resource.as_deliverable() } else { resource }
    }

    /// Sends the object.
    async fn send(&mut self) -> Result<()> {
        let key = self.progress.key.clone();
        let listed = match &self.progress.upload {
            Some(upload) => self.bucket.parts(&key, upload, &CALL).await?,
            None => None,
        };
        let listed = match listed {
            Some(listed) => listed,
            None => {
                self.begin().await?;
                Vec::new()
            }
        };
        let upload = self.progress.upload.clone().unwrap_or_default();
        let resource = self.stored(MULTIPART).with_id(&upload);
        self.context.will_create(&resource)?;
        let parts = Parts {
            context: self.context,
            bucket: &self.bucket,
            key: &key,
            upload: &upload,
            disk: &self.request.disk,
            concurrency: self.cloud.config.concurrency,
            sent: &self.sent,
        };
        let parts = parts.send(listed).await?;
        let object = self.stored(OBJECT);
        self.context.check_cancelled()?;
        self.context.will_create(&object)?;
        let completed = self.bucket.complete(&key, &upload, &parts);
        if let Err(failure) = self.context.until_answered(completed).await {
            let size: u64 = parts.iter().map(|part| part.size).sum();
            // An earlier call was answered, and the answer was lost.
            let there = failure.has_code(&["NoSuchUpload"])
                && self.bucket.size(&key, &CALL).await? == Some(size);
            if !there {
                return Err(failure.into());
            }
        }
        self.context.created(&object)?;
        self.context.gone(&resource)?;
        (self.progress.complete, self.progress.upload) = (true, None);
        self.save()?;
        let name = &self.bucket.name;
        self.context.milestone(format!("uploaded s3://{name}/{key}"))
    }

    async fn begin(&mut self) -> Result<()> {
        let resource = self.stored(MULTIPART);
        self.context.check_cancelled()?;
        self.context.will_create(&resource)?;
        self.progress.upload = None;
        self.save()?;
        // A process may have been killed before it recorded the upload that it had begun.
        let (key, run) = (&self.progress.key, self.run_id());
        let kept = self.cloud.config.keep_object;
        for upload in self.bucket.uploads(key, &CALL).await.unwrap_or_default() {
            self.bucket.abort(key, &upload, &CALL).await?;
        }
        match self.context.until_answered(self.bucket.begin(key, run, kept)).await {
            Ok(upload) => {
                self.context.created(&resource.with_id(&upload))?;
                self.progress.upload = Some(upload);
                self.save()
            }
            Err(failure) => {
                if refused_outright(&failure) {
                    self.context.gone(&resource)?;
                }
                Err(failure.into())
            }
        }
    }

    fn token(&self) -> String {
        let Progress { bucket, key, disk, .. } = &self.progress;
        token(&[self.run_id(), bucket, key, disk, "import"])
    }

    fn task_resource(&self) -> Resource {
        let resource = Resource::new(IMPORT, self.token()).in_region(&self.progress.region);
        self.progress.owner.mark(resource, self.run_id())
    }

    /// Starts the import. A repeated token returns the same task.
    async fn start(&mut self) -> Result<()> {
        let build = &self.request.build;
        let text = description(build);
        let Progress { bucket, key, .. } = &self.progress;
        let mut parameters = parameters(self.cloud.config, bucket, key, &text);
        parameters.extend(pairs(&[("ClientToken", &self.token())]));
        parameters.extend(tag_specifications(&["import-snapshot-task"], &marks::of(build)));
        let resource = self.task_resource();
        self.context.check_cancelled()?;
        self.context.will_create(&resource)?;
        let object = format!("s3://{bucket}/{key}");
        let started = self.ec2.ask::<Started>(Call::ImportSnapshot, &parameters, &object, &CALL);
        match self.context.until_answered(started).await {
            Ok(started) => {
                self.context.created(&resource.with_id(&started.import_task_id))?;
                self.progress.task = Some(started.import_task_id);
                self.save()
            }
            Err(failure) => {
                if refused_outright(&failure) {
                    self.context.gone(&resource)?;
                }
                Err(failure.into())
            }
        }
    }

    /// Waits for the import, and marks its snapshot.
    async fn finish(&mut self) -> Result<String> {
        let task = self.progress.task.clone().unwrap_or_default();
        let run = self.run_id().to_owned();
        let id = self.wait(&task).await?;
        let resource =
            snapshot::resource(&self.progress.owner, &self.progress.region, &self.token(), &run);
        // The mark comes first: without it the snapshot would not be removed.
        let mut tags = marks::of(&self.request.build);
        tags.extend(marks::claim(self.request.disk.virtual_size, self.cloud.skew()));
        self.ec2.tag(&[&id], &tags, &CALL).await?;
        self.context.will_create(&resource.clone().with_id(&id))?;
        self.context.created(&resource.with_id(&id))?;
        self.context.gone(&self.task_resource().with_id(&task))?;
        self.progress.snapshot = Some(id.clone());
        self.save()?;
        snapshot::completed(&self.ec2, &id, self.cloud.config.import).await?;
        self.context.milestone(format!("imported snapshot `{id}`"))?;
        Ok(id)
    }

    async fn wait(&mut self, task: &str) -> Result<String> {
        let mut looks = Looks::begin(self.cloud.config.import);
        loop {
            let found = self.ec2.imports(&pairs(&[("ImportTaskId.1", task)]), &CALL).await?;
            let detail = found.into_iter().next().map(|task| task.snapshot_task_detail);
            let detail = detail.unwrap_or_default();
            let percent = detail.progress.as_deref().and_then(|text| text.parse::<u64>().ok());
            match (detail.status.as_str(), &detail.snapshot_id) {
                ("completed", Some(id)) => return Ok(id.clone()),
                ("deleted" | "deleting", _) => {
                    // Another attempt starts another import.
                    self.progress.task = None;
                    self.save()?;
                    self.context.gone(&self.task_resource().with_id(task))?;
                    return Err(import_failed(task, detail.status_message));
                }
                _ => {}
            }
            if !looks.wait().await {
                let what = format!("import `{task}` is {} % complete", percent.unwrap_or_default());
                return Err(looks.too_late(&what));
            }
        }
    }
}

/// The error for an import that failed: the vendor's text begins with a code.
fn import_failed(task: &str, message: Option<String>) -> Error {
    let message = message.unwrap_or_default();
    let code = message.split([':', ' ']).next().unwrap_or_default().to_owned();
    let refusal = Refusal { code, message, ..Refusal::default() };
    let mut error = Error::from(refusal.into_failure(&format!("import `{task}`")));
    if error.hint.is_none() {
        error.kind = ErrorKind::InvalidImage;
        error.hint = Some(format!(
            "look at it: aws ec2 describe-import-snapshot-tasks --import-task-ids {task}; check the role in AWS_IMPORT_ROLE_NAME and its access to the bucket"
        ));
    }
    error.retryable = false;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_import_has_the_vendors_text_and_a_hint() {
        let text = "ClientError: Disk validation failed [Unsupported VMDK]";
        let error = import_failed("import-snap-1", Some(text.to_owned()));
        assert_eq!((error.kind, error.retryable), (ErrorKind::InvalidImage, false));
        assert_eq!(error.causes, [text]);
        assert!(error.hint.unwrap().contains("import-snap-1"));
        let denied = import_failed("x", Some("AccessDenied: no".to_owned()));
        assert_eq!(denied.kind, ErrorKind::Auth);
    }

    #[test]
    fn tasks_are_parsed() {
        let xml = "<DescribeImportSnapshotTasksResponse><importSnapshotTaskSet><item><importTaskId>import-snap-1</importTaskId><snapshotTaskDetail><status>active</status><progress>28</progress><statusMessage>pending</statusMessage><diskImageSize>0.0</diskImageSize></snapshotTaskDetail></item></importSnapshotTaskSet></DescribeImportSnapshotTasksResponse>";
        let found: Tasks = quick_xml::de::from_str(xml).unwrap();
        let detail = &found.tasks.item[0].snapshot_task_detail;
        assert_eq!((detail.status.as_str(), detail.progress.as_deref()), ("active", Some("28")));
    }
}
