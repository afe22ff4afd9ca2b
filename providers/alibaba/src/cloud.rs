//! Opens the services of one place for one step.

use std::sync::Arc;

use build_image_plugin_api::Result;

use crate::{config::Place, credentials::Credentials, ecs::Ecs, oss::Oss, ram::Ram, sts::Sts};

/// OSS, ECS, STS and RAM.
pub(crate) struct Cloud {
    pub(crate) oss: Oss,
    pub(crate) ecs: Ecs,
    pub(crate) sts: Sts,
    pub(crate) ram: Ram,
}

impl Cloud {
    /// Opens the services of a place; no request is made yet.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(credentials: &Arc<Credentials>, place: &Place) -> Result<Self> {
        Ok(Self {
            oss: Oss::open(place, Arc::clone(credentials))?,
            ecs: Ecs::open(place, Arc::clone(credentials))?,
            sts: Sts::open(place, Arc::clone(credentials))?,
            ram: Ram::open(place, Arc::clone(credentials))?,
        })
    }
}
