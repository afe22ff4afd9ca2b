//! Hostile disks: the inspection ends, with remarks.
