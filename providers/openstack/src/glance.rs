//! The calls of the image API (Glance v2) that this provider makes.

use build_image_plugin_api::{Error, ErrorKind, retry::Failure};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cloud::{Cloud, HASHES},
    http::{Meaning as _, foreign},
    image::Image,
};

const JSON: &str = "application/json";
/// RFC 6902 with the restrictions of the image API.
const PATCH: &str = "application/openstack-images-v2.1-json-patch";
/// Images per page.
const PAGE: usize = 100;
/// Most pages that are read.
const MOST_PAGES: usize = 100;
/// Characters of a query that are not escaped.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Escapes a text for a URL.
pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

impl Cloud {
    /// Returns an image, or `None` when it does not exist for this project.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn image(&self, id: &str) -> Result<Option<Image>, Failure> {
        let what = format!("read image `{id}`");
        match self.call(Method::GET, &format!("/v2/images/{id}"), None, &what).await {
            Ok(answer) => {
                Image::read(answer.document(&what)?).map(Some).ok_or_else(|| foreign(&what))
            }
            Err(failure) if failure.has_status(404) || failure.has_status(410) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Creates a record without data. Returns it and the import methods that the service offers.
    ///
    /// # Errors
    /// Refusals; 409 when the id has been used, also by an image that was deleted.
    pub(crate) async fn create_image(&self, record: &Value) -> Result<Image, Failure> {
        let what = format!("create image `{}`", record["name"].as_str().unwrap_or_default());
        let answer =
            self.call(Method::POST, "/v2/images", Some((JSON, record.clone())), &what).await?;
        Image::read(answer.document(&what)?).ok_or_else(|| foreign(&what))
    }

    /// Changes an image: a list of operations, each of which may be repeated.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn patch_image(
        &self,
        id: &str,
        operations: Value,
        what: &str,
    ) -> Result<Image, Failure> {
        let answer = self
            .call(Method::PATCH, &format!("/v2/images/{id}"), Some((PATCH, operations)), what)
            .await?;
        Image::read(answer.document(what)?).ok_or_else(|| foreign(what))
    }

    /// Deletes an image. Returns whether it existed, and was not being deleted already.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn delete_image(&self, id: &str) -> Result<bool, Failure> {
        let what = format!("delete image `{id}`");
        match self.call(Method::DELETE, &format!("/v2/images/{id}"), None, &what).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.has_status(404) || failure.has_status(410) => Ok(false),
            // The record stays for a moment with the status `deleted`, which has no successor: 400.
            Err(failure) if failure.has_status(400) && self.is_deleted(id).await? => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Whether an image does not exist, or is being deleted.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn is_deleted(&self, id: &str) -> Result<bool, Failure> {
        Ok(self.image(id).await?.is_none_or(|image| image.is_being_deleted()))
    }

    /// Returns the images with a name that this project can see, hidden ones or the others.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn images_named(
        &self,
        name: &str,
        hidden: bool,
    ) -> Result<Vec<Image>, Failure> {
        let what = format!("list images with the name `{name}`");
        let hidden = if hidden { "true" } else { "false" };
        let path = format!("/v2/images?name={}&os_hidden={hidden}&limit={PAGE}", escaped(name));
        self.list_images(path, &what).await
    }

    /// Returns the images of this project, hidden ones or the others, oldest first: all, or those with a property.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn images_with(
        &self,
        property: Option<(&str, &str)>,
        hidden: bool,
    ) -> Result<Vec<Image>, Failure> {
        let property = property.map(|(name, value)| format!("&{name}={}", escaped(value)));
        let (project, property) = (self.project(), property.unwrap_or_default());
        // A service that cannot hide images does not know the filter.
        let hidden = match self.minor_version >= HASHES {
            true => format!("&os_hidden={hidden}"),
            false if hidden => return Ok(Vec::new()),
            false => String::new(),
        };
        let owner = escaped(&project);
        let sort = "sort_key=created_at&sort_dir=asc";
        let query = format!("owner={owner}{hidden}{property}&{sort}&limit={PAGE}");
        let what = format!("list the images of project `{project}`");
        self.list_images(format!("/v2/images?{query}"), &what).await
    }

    /// Reads all pages of a list.
    async fn list_images(&self, mut path: String, what: &str) -> Result<Vec<Image>, Failure> {
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            let document = self.call(Method::GET, &path, None, what).await?.document(what)?;
            let images = document["images"].as_array().ok_or_else(|| foreign(what))?;
            found.extend(images.iter().cloned().filter_map(Image::read));
            match document["next"].as_str() {
                Some(next) if next.starts_with("/v2/") => path = next.to_owned(),
                _ => return Ok(found),
            }
        }
        let most = MOST_PAGES * PAGE;
        let message = format!("cannot {what}: there are more than {most}");
        Err(Failure::stop(
            Error::new(ErrorKind::Quota, message).with_hint("name a run, or images by their ids"),
        ))
    }

    /// Returns the tasks of an image; none where the service does not show them.
    ///
    /// # Errors
    /// Other refusals, and broken connections.
    pub(crate) async fn tasks(&self, id: &str) -> Result<Vec<Value>, Failure> {
        let document = self.about(&format!("/v2/images/{id}/tasks")).await?;
        Ok(document.and_then(|found| found["tasks"].as_array().cloned()).unwrap_or_default())
    }

    /// Withdraws an image from a project; a project without it is not an error.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn remove_member(&self, id: &str, project: &str) -> Result<(), Failure> {
        let what = format!("withdraw image `{id}` from project `{project}`");
        let path = format!("/v2/images/{id}/members/{}", escaped(project));
        match self.call(Method::DELETE, &path, None, &what).await {
            Err(failure) if !failure.has_status(404) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Lets an image be used, or not: `reactivate` or `deactivate`.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn activate(&self, id: &str, action: &str) -> Result<(), Failure> {
        let path = format!("/v2/images/{id}/actions/{action}");
        self.call(Method::POST, &path, None, &format!("{action} image `{id}`")).await.map(drop)
    }

    /// Deletes the data of an image in one store. Returns whether it was there.
    ///
    /// # Errors
    /// Refusals, also for the only store that has the data, and broken connections.
    pub(crate) async fn delete_from_store(&self, id: &str, store: &str) -> Result<bool, Failure> {
        let what = format!("delete image `{id}` from store `{store}`");
        let path = format!("/v2/stores/{}/{id}", escaped(store));
        match self.call(Method::DELETE, &path, None, &what).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.has_status(404) || failure.has_status(410) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Starts an import: of staged data, or into further stores.
    ///
    /// # Errors
    /// Refusals; 409 when it has been started already.
    pub(crate) async fn import(
        &self,
        id: &str,
        method: &str,
        stores: &[String],
    ) -> Result<(), Failure> {
        let what = format!("import image `{id}` ({method})");
        let mut body = json!({"method": {"name": method}});
        if !stores.is_empty() {
            body["stores"] = stores.into();
            body["all_stores_must_succeed"] = true.into();
        }
        self.call(Method::POST, &format!("/v2/images/{id}/import"), Some((JSON, body)), &what)
            .await
            .map(drop)
    }

    /// Returns the message of the newest failed task of an image; `None` also where the service shows no tasks.
    pub(crate) async fn failed_task(&self, id: &str) -> Option<String> {
        let what = format!("read the tasks of image `{id}`");
        let answer =
            self.call(Method::GET, &format!("/v2/images/{id}/tasks"), None, &what).await.ok()?;
        let document = answer.document(&what).ok()?;
        let mut tasks = document["tasks"].as_array()?.clone();
        tasks.sort_by_key(|task| task["created_at"].as_str().unwrap_or_default().to_owned());
        let newest = tasks.last()?;
        let message = newest["message"].as_str().unwrap_or_default();
        (newest["status"] == "failure").then(|| message.to_owned())
    }

    /// Returns the members of an image: project and status.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn members(&self, id: &str) -> Result<Vec<(String, String)>, Failure> {
        let what = format!("list the members of image `{id}`");
        let document = self
            .call(Method::GET, &format!("/v2/images/{id}/members"), None, &what)
            .await?
            .document(&what)?;
        let members = document["members"].as_array().ok_or_else(|| foreign(&what))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(members.iter().map(|one| (text(&one["member_id"]), text(&one["status"]))).collect())
    }

    /// Shares an image with a project; sharing it twice is not an error.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn add_member(&self, id: &str, project: &str) -> Result<(), Failure> {
        let what = format!("share image `{id}` with project `{project}`");
        let body = json!({"member": project});
        match self
            .call(Method::POST, &format!("/v2/images/{id}/members"), Some((JSON, body)), &what)
            .await
        {
            Ok(_) => Ok(()),
            Err(failure) if failure.has_status(409) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Reads a document that describes the service; `None` where the service does not have it.
    ///
    /// # Errors
    /// Other refusals, and broken connections.
    pub(crate) async fn about(&self, path: &str) -> Result<Option<Value>, Failure> {
        let what = format!("read `{path}` of the image service");
        match self.call(Method::GET, path, None, &what).await {
            Ok(answer) => answer.document(&what).map(Some),
            Err(failure)
                if failure.has_status(404)
                    || failure.has_status(403)
                    || failure.has_status(501) =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the import methods of the service.
    ///
    /// # Errors
    /// Broken connections.
    pub(crate) async fn import_methods(&self) -> Result<Vec<String>, Failure> {
        let document = self.about("/v2/info/import").await?.unwrap_or_default();
        Ok(texts(&document["import-methods"]["value"]))
    }
}

/// Returns the identifiers of the stores that a service lists, without those that only read.
pub(crate) fn store_names(document: &Value) -> Vec<String> {
    let stores = document["stores"].as_array().into_iter().flatten();
    let writes = stores.filter(|store| {
        !matches!(&store["read-only"], Value::String(text) if text == "true")
            && store["read-only"] != true
    });
    writes.filter_map(|store| store["id"].as_str().map(str::to_owned)).collect()
}

/// The texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
