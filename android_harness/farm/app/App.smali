# An app with nothing in it: a test's process loads the code of both.

.class public final Lorg/mobileclipdeploy/farm/App;
.super Landroid/app/Application;

.method public constructor <init>()V
    .registers 1
    invoke-direct {p0}, Landroid/app/Application;-><init>()V
    return-void
.end method
