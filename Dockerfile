FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --home-dir /data relay && install -d -o relay /data
COPY --from=build /src/target/release/claude-relay /usr/local/bin/
USER relay
WORKDIR /data
ENV DATA_DIR=/data
VOLUME /data
EXPOSE 3000
# Docker waits 10 s before it kills; give running answers most of that, or raise both.
ENV SHUTDOWN_GRACE=8000
CMD ["claude-relay"]
