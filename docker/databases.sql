-- What the servers keep apart; PostgreSQL runs this once, when its volume is new.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
