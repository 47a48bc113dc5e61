//! gRPC: one file a service. Decode, call, encode.

use std::sync::Arc;

use ops_proto::v1::access_service_server::AccessServiceServer;
use ops_proto::v1::agent_service_server::AgentServiceServer;
use ops_proto::v1::audit_service_server::AuditServiceServer;
use ops_proto::v1::backup_service_server::BackupServiceServer;
use ops_proto::v1::database_service_server::DatabaseServiceServer;
use ops_proto::v1::health_service_server::HealthServiceServer;
use ops_proto::v1::log_service_server::LogServiceServer;
use ops_proto::v1::operation_service_server::OperationServiceServer;
use ops_proto::v1::probe_service_server::ProbeServiceServer;
use ops_proto::v1::service_service_server::ServiceServiceServer;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::app::App;

mod access;
mod agent;
mod audit;
mod backup;
mod database;
mod health;
mod log;
mod operation;
mod probe;
mod service;
mod status;

/// Every service, with the limits of messages.
#[must_use]
pub fn routes(app: &Arc<App>) -> Routes {
    let limits = &app.config.limits;
    macro_rules! serve {
        ($server:ident, $handler:expr) => {
            $server::new($handler)
                .max_decoding_message_size(limits.message_in_bytes)
                .max_encoding_message_size(limits.message_out_bytes)
        };
    }
    let routes = Routes::default()
        .add_service(serve!(AccessServiceServer, access::Access::new(app)))
        .add_service(serve!(AgentServiceServer, agent::Agent::new(app)))
        .add_service(serve!(AuditServiceServer, audit::Audit::new(app)))
        .add_service(serve!(OperationServiceServer, operation::Operation::new(app)))
        .add_service(serve!(ServiceServiceServer, service::Service::new(app)))
        .add_service(serve!(ProbeServiceServer, probe::Probe::new(app)))
        .add_service(serve!(LogServiceServer, log::Log::new(app)))
        .add_service(serve!(HealthServiceServer, status::Status::new(app)))
        .add_service(serve!(DatabaseServiceServer, database::Database::new(app)))
        .add_service(serve!(BackupServiceServer, backup::Backup::new(app)))
        .add_service(serve!(HealthServer, health::Health::new(app)));
    with_reflection(routes)
}

fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(ops_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Our own descriptors decode; `tests/integration/house.rs` asks for them.
    let routes = match builder().build_v1() {
        Ok(service) => routes.add_service(service),
        Err(error) => {
            tracing::error!(%error, "no reflection");
            routes
        }
    };
    match builder().build_v1alpha() {
        Ok(service) => routes.add_service(service),
        Err(_) => routes,
    }
}
