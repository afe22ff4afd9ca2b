//! Makes the EC2 calls: parameters in a form, XML answers.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/>.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Result,
    http::Answer,
    retry::{Failure, Policy, RetryAction, retry},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    client::{Request, Service},
    cloud::Cloud,
    image::{Image, Snapshot},
    partition::Api,
    permissions::Call,
};

/// Characters that stay as they are in forms (RFC 3986, unreserved).
pub(crate) const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Version of the API.
const VERSION: &str = "2016-11-15";
/// Objects of a page.
const PAGE: &str = "1000";

/// Parameters of a call.
pub(crate) type Parameters = Vec<(String, String)>;

/// Returns parameters of fixed names.
pub(crate) fn pairs(all: &[(&str, &str)]) -> Parameters {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A list of an answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Items<T> {
    pub(crate) item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

/// EC2 in a region.
#[derive(Clone)]
pub(crate) struct Ec2 {
    service: Service,
    pub(crate) region: String,
}

/// A page of a list. A page without objects is not the end.
pub(crate) trait Page: DeserializeOwned {
    /// What is listed.
    type Item;

    /// Returns the objects, and the token of the next page.
    fn take(self) -> (Vec<Self::Item>, Option<String>);
}

/// A page of images.
#[derive(Deserialize)]
pub(crate) struct Images {
    #[serde(rename = "imagesSet", default)]
    images: Items<Image>,
    #[serde(rename = "nextToken")]
    next: Option<String>,
}

impl Page for Images {
    type Item = Image;

    fn take(self) -> (Vec<Image>, Option<String>) {
        (self.images.item, self.next)
    }
}

/// A page of snapshots.
#[derive(Deserialize)]
pub(crate) struct Snapshots {
    #[serde(rename = "snapshotSet", default)]
    snapshots: Items<Snapshot>,
    #[serde(rename = "nextToken")]
    next: Option<String>,
}

impl Page for Snapshots {
    type Item = Snapshot;

    fn take(self) -> (Vec<Snapshot>, Option<String>) {
        (self.snapshots.item, self.next)
    }
}

#[derive(Deserialize)]
struct Registered {
    #[serde(rename = "imageId")]
    image: String,
}

impl Ec2 {
    /// Opens EC2 in a region.
    ///
    /// # Errors
    /// Config errors for the endpoint.
    pub(crate) fn open(cloud: &Cloud<'_>, region: &str) -> Result<Self> {
        let service = cloud.service(Api::Ec2, region)?;
        Ok(Self { service, region: region.to_owned() })
    }

    /// Calls until it succeeds or the policy gives up. `object` names the object in messages.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn call(
        &self,
        call: Call,
        parameters: &Parameters,
        object: &str,
        policy: &Policy,
    ) -> Result<Answer, Failure> {
        let (what, request) = (self.what(call, object), request(call, parameters));
        // Checks and removals know that an object may be absent.
        let patient = names_new_objects(call) && !policy.min_retry_time.is_zero();
        retry(policy, async || {
            let answer = self.service.attempt(&request, &what).await;
            answer.map_err(|mut failure| {
                if patient && is_absent(&failure) {
                    (failure.action, failure.error.retryable) = (RetryAction::Backoff, true);
                }
                failure
            })
        })
        .await
    }

    fn what(&self, call: Call, object: &str) -> String {
        let of = if object.is_empty() { String::new() } else { format!(" of {object}") };
        format!("`{}`{of} in {}", call.name(), self.region)
    }

    /// As [`Ec2::call`], and parses the answer.
    ///
    /// # Errors
    /// As [`Ec2::call`], and an answer that the service never gives.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: Call,
        parameters: &Parameters,
        object: &str,
        policy: &Policy,
    ) -> Result<T, Failure> {
        let answer = self.call(call, parameters, object, policy).await?;
        Service::xml(&answer, &self.what(call, object))
    }

    /// Returns the objects of all pages of a list.
    ///
    /// # Errors
    /// As [`Ec2::ask`].
    pub(crate) async fn list<P: Page>(
        &self,
        call: Call,
        parameters: &Parameters,
        object: &str,
        policy: &Policy,
    ) -> Result<Vec<P::Item>, Failure> {
        Ok(self.pages::<P>(call, parameters, object, usize::MAX, policy).await?.0)
    }

    /// Returns the objects of at most this many pages of a list, and whether there are more.
    ///
    /// # Errors
    /// As [`Ec2::ask`].
    pub(crate) async fn pages<P: Page>(
        &self,
        call: Call,
        parameters: &Parameters,
        object: &str,
        most: usize,
        policy: &Policy,
    ) -> Result<(Vec<P::Item>, bool), Failure> {
        let (mut all, mut token) = (Vec::new(), None::<String>);
        // Lists without a limit are slow in large accounts; with identifiers none is permitted.
        let is_list = !parameters.iter().any(|(name, _)| name.contains("Id."));
        for _ in 0..most {
            let mut parameters = parameters.clone();
            parameters.extend(is_list.then(|| ("MaxResults".to_owned(), PAGE.to_owned())));
            parameters.extend(token.iter().map(|token| ("NextToken".to_owned(), token.clone())));
            let (items, next) = self.ask::<P>(call, &parameters, object, policy).await?.take();
            all.extend(items);
            // A token that leads nowhere must not be followed for ever.
            let next = next.filter(|next| !next.is_empty() && Some(next) != token.as_ref());
            if next.is_none() {
                return Ok((all, false));
            }
            token = next;
        }
        Ok((all, true))
    }

    /// Returns an image of the account, by id.
    ///
    /// # Errors
    /// Refusals and broken connections; an image that does not exist is not one.
    pub(crate) async fn image(&self, id: &str, policy: &Policy) -> Result<Option<Image>, Failure> {
        let parameters = pairs(&[("ImageId.1", id)]);
        let object = format!("image `{id}`");
        match self.list::<Images>(Call::DescribeImages, &parameters, &object, policy).await {
            Ok(found) => Ok(found.into_iter().next().filter(Image::exists)),
            Err(failure) if is_absent(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Returns the images of the account whose tag or name (`name`, `tag:KEY`) has this value.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn images_with(
        &self,
        filter: &str,
        value: &str,
        policy: &Policy,
    ) -> Result<Vec<Image>, Failure> {
        let parameters = pairs(&[
            ("Owner.1", "self"),
            ("Filter.1.Name", filter),
            ("Filter.1.Value.1", &escaped(value)),
            ("IncludeDeprecated", "true"),
            ("IncludeDisabled", "true"),
        ]);
        let object = format!("{filter} `{value}`");
        match self.list::<Images>(Call::DescribeImages, &parameters, &object, policy).await {
            Ok(found) => Ok(found.into_iter().filter(Image::exists).collect()),
            Err(failure) if is_absent(&failure) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Returns a snapshot of the account, by id.
    ///
    /// # Errors
    /// Refusals and broken connections; a snapshot that does not exist is not one.
    pub(crate) async fn snapshot(
        &self,
        id: &str,
        policy: &Policy,
    ) -> Result<Option<Snapshot>, Failure> {
        let parameters = pairs(&[("SnapshotId.1", id)]);
        let object = format!("snapshot `{id}`");
        match self.list::<Snapshots>(Call::DescribeSnapshots, &parameters, &object, policy).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(failure) if is_absent(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Returns the snapshots of the account whose tag has this value.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn snapshots_tagged(
        &self,
        key: &str,
        value: &str,
        policy: &Policy,
    ) -> Result<Vec<Snapshot>, Failure> {
        let parameters = pairs(&[
            ("Owner.1", "self"),
            ("Filter.1.Name", &format!("tag:{key}")),
            ("Filter.1.Value.1", &escaped(value)),
        ]);
        let object = format!("tag {key} `{value}`");
        self.list::<Snapshots>(Call::DescribeSnapshots, &parameters, &object, policy).await
    }

    /// Registers or copies an image; returns its id.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn make_image(
        &self,
        call: Call,
        parameters: &Parameters,
        object: &str,
        policy: &Policy,
    ) -> Result<String, Failure> {
        Ok(self.ask::<Registered>(call, parameters, object, policy).await?.image)
    }

    /// Deregisters an image; one that does not exist is not an error.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn deregister(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let object = format!("image `{id}`");
        absent_is_fine(
            self.call(Call::DeregisterImage, &pairs(&[("ImageId", id)]), &object, policy).await,
        )
    }

    /// Deletes a snapshot; one that does not exist is not an error.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn delete_snapshot(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let object = format!("snapshot `{id}`");
        absent_is_fine(
            self.call(Call::DeleteSnapshot, &pairs(&[("SnapshotId", id)]), &object, policy).await,
        )
    }

    /// Sets tags of objects.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn tag(
        &self,
        ids: &[&str],
        tags: &BTreeMap<String, String>,
        policy: &Policy,
    ) -> Result<(), Failure> {
        if ids.is_empty() || tags.is_empty() {
            return Ok(());
        }
        let mut parameters = Parameters::new();
        for (position, id) in ids.iter().enumerate() {
            parameters.push((format!("ResourceId.{}", position + 1), (*id).to_owned()));
        }
        parameters.extend(tag_parameters("", tags));
        let object = format!("`{}`", ids.join("`, `"));
        self.call(Call::CreateTags, &parameters, &object, policy).await.map(drop)
    }
}

/// Whether a call names objects that the run has just created: the service answers for a moment that they do not exist
/// (<https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>).
const fn names_new_objects(call: Call) -> bool {
    matches!(
        call,
        Call::RegisterImage
            | Call::CopyImage
            | Call::CreateTags
            | Call::ModifyImageAttribute
            | Call::DescribeImageAttribute
            | Call::EnableImageDeprecation
            | Call::ModifySnapshotAttribute
            | Call::DescribeSnapshotAttribute
    )
}

/// Returns the form of a call.
fn request(call: Call, parameters: &Parameters) -> Request {
    let mut body = format!("Action={}&Version={VERSION}", call.name());
    for (name, value) in parameters {
        for text in ["&", name, "="] {
            body.push_str(text);
        }
        body.extend(utf8_percent_encode(value, ENCODED));
    }
    Request::new(Method::POST, "/")
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
        .body(body)
}

/// Filters read `*`, `?`, and `\` as patterns.
pub(crate) fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, letter| {
        if matches!(letter, '*' | '?' | '\\') {
            text.push('\\');
        }
        text.push(letter);
        text
    })
}

/// Whether a call failed because its object does not exist.
pub(crate) fn is_absent(failure: &Failure) -> bool {
    failure.code.ends_with(".NotFound") || failure.has_code(&["InvalidAMIID.Unavailable"])
}

fn absent_is_fine(outcome: Result<Answer, Failure>) -> Result<(), Failure> {
    match outcome {
        Err(failure) if !is_absent(&failure) => Err(failure),
        _ => Ok(()),
    }
}

/// Returns the parameters of tags: `Tag.1.Key`, with a prefix such as `TagSpecification.1.`.
pub(crate) fn tag_parameters(prefix: &str, tags: &BTreeMap<String, String>) -> Parameters {
    let mut all = Parameters::new();
    for (position, (key, value)) in tags.iter().enumerate() {
        all.push((format!("{prefix}Tag.{}.Key", position + 1), key.clone()));
        all.push((format!("{prefix}Tag.{}.Value", position + 1), value.clone()));
    }
    all
}

/// Returns the parameters of `TagSpecification` for these types of objects.
pub(crate) fn tag_specifications(types: &[&str], tags: &BTreeMap<String, String>) -> Parameters {
    let mut all = Parameters::new();
    for (position, kind) in types.iter().enumerate() {
        let prefix = format!("TagSpecification.{}.", position + 1);
        all.push((format!("{prefix}ResourceType"), (*kind).to_owned()));
        all.extend(tag_parameters(&prefix, tags));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_and_a_filter_is_literal() {
        let parameters = pairs(&[("Name", "a b/(ü)~"), ("DryRun", "true")]);
        let request = request(Call::RegisterImage, &parameters);
        assert_eq!(
            std::str::from_utf8(&request.body).unwrap(),
            "Action=RegisterImage&Version=2016-11-15&Name=a%20b%2F%28%C3%BC%29~&DryRun=true"
        );
        assert_eq!(escaped("a*b?c\\d"), "a\\*b\\?c\\\\d");
    }

    #[test]
    fn answers_are_parsed_with_missing_members() {
        let xml = "<DescribeImagesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId><imagesSet><item><imageId>ami-1</imageId><imageState>available</imageState><name>web</name><blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-1</snapshotId><volumeSize>8</volumeSize><deleteOnTermination>true</deleteOnTermination><volumeType>gp3</volumeType><encrypted>false</encrypted></ebs></item><item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item></blockDeviceMapping><tagSet><item><key>build-image-run</key><value>r-1</value></item></tagSet></item><item><imageId>ami-2</imageId><imageState>deregistered</imageState></item></imagesSet></DescribeImagesResponse>";
        let found: Images = quick_xml::de::from_str(xml).unwrap();
        let image = &found.images.item[0];
        assert_eq!(image.snapshots(), ["snap-1"]);
        assert_eq!(image.tags().get("build-image-run").map(String::as_str), Some("r-1"));
        assert!(image.exists() && !found.images.item[1].exists());
        for empty in ["<R><imagesSet/></R>", "<R><imagesSet></imagesSet></R>", "<R></R>"] {
            let found: Images = quick_xml::de::from_str(empty).unwrap();
            assert!(found.images.item.is_empty(), "{empty}");
        }
    }
}
