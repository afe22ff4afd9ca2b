//! Derives partitions and hosts from regions, by the rules of the vendor's endpoint documentation
//! (<https://docs.aws.amazon.com/general/latest/gr/rande.html>, `partitions.json` of the SDKs).

/// A group of regions with separate accounts and its own domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Name in ARNs: `aws`, `aws-cn`.
    pub(crate) name: &'static str,
    /// Domain of the services.
    domain: &'static str,
    /// Prefix of its regions; empty for the rest.
    prefix: &'static str,
    /// Host of IAM, and the region its requests are signed for.
    iam: (&'static str, &'static str),
}

/// All partitions; the last one has the regions that no other has.
const PARTITIONS: [Partition; 8] = [
    Partition {
        name: "aws-cn",
        domain: "amazonaws.com.cn",
        prefix: "cn-",
        iam: ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    },
    Partition {
        name: "aws-us-gov",
        domain: "amazonaws.com",
        prefix: "us-gov-",
        iam: ("iam.us-gov.amazonaws.com", "us-gov-west-1"),
    },
    Partition {
        name: "aws-iso",
        domain: "c2s.ic.gov",
        prefix: "us-iso-",
        iam: ("iam.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    },
    Partition {
        name: "aws-iso-b",
        domain: "sc2s.sgov.gov",
        prefix: "us-isob-",
        iam: ("iam.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
    },
    Partition {
        name: "aws-iso-e",
        domain: "cloud.adc-e.uk",
        prefix: "eu-isoe-",
        iam: ("iam.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"),
    },
    Partition {
        name: "aws-iso-f",
        domain: "csp.hci.ic.gov",
        prefix: "us-isof-",
        iam: ("iam.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"),
    },
    Partition {
        name: "aws-eusc",
        domain: "amazonaws.eu",
        prefix: "eusc-",
        iam: ("iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    },
    Partition {
        name: "aws",
        domain: "amazonaws.com",
        prefix: "",
        iam: ("iam.amazonaws.com", "us-east-1"),
    },
];

/// A service of the vendor that this provider calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Api {
    Ec2,
    Ebs,
    S3,
    Sts,
    Kms,
    Iam,
    Quotas,
}

impl Api {
    /// Name in hosts and signatures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ebs => "ebs",
            Self::S3 => "s3",
            Self::Sts => "sts",
            Self::Kms => "kms",
            Self::Iam => "iam",
            Self::Quotas => "servicequotas",
        }
    }

    /// Identifier in variables (`AWS_ENDPOINT_URL_<ID>`) and, in lower case, in `services` sections of profiles.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Ebs => "EBS",
            Self::S3 => "S3",
            Self::Sts => "STS",
            Self::Kms => "KMS",
            Self::Iam => "IAM",
            Self::Quotas => "SERVICE_QUOTAS",
        }
    }

    /// Host in a region, and the region that its requests are signed for.
    pub(crate) fn host(self, region: &str) -> (String, String) {
        let partition = Partition::of(region);
        match self {
            Self::Iam => (partition.iam.0.to_owned(), partition.iam.1.to_owned()),
            _ => (format!("{}.{region}.{}", self.name(), partition.domain), region.to_owned()),
        }
    }
}

impl Partition {
    /// Returns the partition of a region.
    pub(crate) fn of(region: &str) -> Self {
        let found = PARTITIONS.iter().find(|partition| region.starts_with(partition.prefix));
        *found.unwrap_or(&PARTITIONS[PARTITIONS.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_the_partition_of_the_region() {
        for (api, region, host, signed, partition) in [
            (Api::Ec2, "eu-central-1", "ec2.eu-central-1.amazonaws.com", "eu-central-1", "aws"),
            (Api::Ebs, "us-east-1", "ebs.us-east-1.amazonaws.com", "us-east-1", "aws"),
            (Api::Ebs, "cn-north-1", "ebs.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn"),
            (
                Api::S3,
                "us-gov-west-1",
                "s3.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                "aws-us-gov",
            ),
            (Api::Ec2, "us-iso-east-1", "ec2.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "aws-iso"),
            (
                Api::Ec2,
                "us-isob-east-1",
                "ec2.us-isob-east-1.sc2s.sgov.gov",
                "us-isob-east-1",
                "aws-iso-b",
            ),
            (
                Api::Ec2,
                "eusc-de-east-1",
                "ec2.eusc-de-east-1.amazonaws.eu",
                "eusc-de-east-1",
                "aws-eusc",
            ),
            (Api::Iam, "eu-west-3", "iam.amazonaws.com", "us-east-1", "aws"),
            (Api::Iam, "cn-northwest-1", "iam.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn"),
        ] {
            assert_eq!(api.host(region), (host.to_owned(), signed.to_owned()));
            assert_eq!(Partition::of(region).name, partition);
        }
    }
}
