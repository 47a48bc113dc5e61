//! The public port.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use mongodb::bson::{DateTime, doc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::database::Unreachable;
use super::{Platform, faults};
use crate::seed;

/// How many documents a list shows.
const PAGE: i64 = 20;

pub(super) fn router(platform: Platform) -> Router {
    Router::new()
        .route("/api/health", get(health))
        .route("/api/auctions", get(auctions))
        .route("/api/leagues", get(leagues))
        .route("/api/sports", get(sports))
        .route("/api/bids", get(bids).post(bid))
        .with_state(platform)
}

/// In the playbook's shape: 200 when the database answered a ping just now, else 503.
async fn health(State(platform): State<Platform>) -> Response {
    let database = platform.database.ping().await;
    let api = if platform.faults.never_ready() { "starting" } else { "healthy" };
    let all_well = database.is_ok() && api == "healthy";
    let code = if all_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let code = platform.faults.health_status().unwrap_or(code);
    let word = |well| if well { "healthy" } else { "unhealthy" };
    let body = json!({
        "status": word(code.is_success()),
        "services": { "database": word(database.is_ok()), "api": api },
        "timestamp": format!("{:.3}", Timestamp::now()),
    });
    (code, Json(body)).into_response()
}

async fn auctions(State(platform): State<Platform>) -> Response {
    answer(platform.database.newest("auctions", doc! { "starts_at": -1 }, PAGE).await)
}

async fn leagues(State(platform): State<Platform>) -> Response {
    answer(platform.database.newest("leagues", doc! { "name": 1 }, PAGE).await)
}

async fn bids(State(platform): State<Platform>) -> Response {
    answer(platform.database.newest("bids", doc! { "created_at": -1 }, PAGE).await)
}

async fn sports() -> Json<Value> {
    Json(seed::SPORTS.iter().copied().collect())
}

#[derive(Debug, Deserialize)]
struct Bid {
    auction: i32,
    amount: i64,
}

async fn bid(State(platform): State<Platform>, Json(bid): Json<Bid>) -> Response {
    let document = doc! {
        "auction": bid.auction,
        "amount": bid.amount,
        "status": "placed",
        "created_at": DateTime::now(),
    };
    match platform.database.insert("bids", document).await {
        Ok(()) => (StatusCode::CREATED, Json(json!({ "status": "placed" }))).into_response(),
        Err(error) => unavailable(&error),
    }
}

fn answer(result: Result<Value, Unreachable>) -> Response {
    match result {
        Ok(documents) => Json(documents).into_response(),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &Unreachable) -> Response {
    faults::traceback(&error.error);
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "detail": "database unavailable" }))).into_response()
}
