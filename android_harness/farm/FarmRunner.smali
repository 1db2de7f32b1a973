# The instrumentation of a farm's test: unpacks its own APK into a folder of the shell's, runs the job's run.sh there as
# the shell does (UiAutomation.executeShellCommand), tells every line, and ends as a JUnit test that passed or failed.
# Why the shell: Android kills programs of another C library than its own in an app's processes, not in the shell's.
# Smali, because Debian has an assembler for it (libsmali-java) and no compiler from Java to an APK's code.

.class public final Lorg/mobileclipdeploy/farm/FarmRunner;
.super Landroid/app/Instrumentation;

.field private folder:Ljava/lang/String;

.method public constructor <init>()V
    .registers 1
    invoke-direct {p0}, Landroid/app/Instrumentation;-><init>()V
    return-void
.end method

# void onCreate(Bundle arguments) { folder = arguments.getString("folder", "/data/local/tmp/mobileclip-farm"); start(); }
.method public onCreate(Landroid/os/Bundle;)V
    .registers 4
    invoke-super {p0, p1}, Landroid/app/Instrumentation;->onCreate(Landroid/os/Bundle;)V
    const-string v0, "folder"
    const-string v1, "/data/local/tmp/mobileclip-farm"
    invoke-virtual {p1, v0, v1}, Landroid/os/Bundle;->getString(Ljava/lang/String;Ljava/lang/String;)Ljava/lang/String;
    move-result-object v0
    iput-object v0, p0, Lorg/mobileclipdeploy/farm/FarmRunner;->folder:Ljava/lang/String;
    invoke-virtual {p0}, Landroid/app/Instrumentation;->start()V
    return-void
.end method

# void onStart() {
#     tell(1, "", "");                                                      // JUnit: a test begins
#     String last;
#     try {
#         shell("rm -rf " + folder);
#         shell("unzip -o -q " + getContext().getPackageCodePath() + " -d " + folder);
#         last = shell("sh " + folder + "/assets/run.sh");
#     } catch (Exception error) {
#         last = error.toString();
#     }
#     boolean done = last.equals("mobileclip-shell-ended 0");
#     if (done) tell(0, "stream", "."); else tell(-2, "stack", last);       // it passed, it failed
#     Bundle end = new Bundle();
#     end.putString("stream", last);
#     finish(-1, end);                                                      // Activity.RESULT_OK: it ran to its end
# }
.method public onStart()V
    .registers 6
    const/4 v0, 0x1
    const-string v1, ""
    invoke-direct {p0, v0, v1, v1}, Lorg/mobileclipdeploy/farm/FarmRunner;->tell(ILjava/lang/String;Ljava/lang/String;)V

    :try_start
    new-instance v0, Ljava/lang/StringBuilder;
    const-string v1, "rm -rf "
    invoke-direct {v0, v1}, Ljava/lang/StringBuilder;-><init>(Ljava/lang/String;)V
    iget-object v1, p0, Lorg/mobileclipdeploy/farm/FarmRunner;->folder:Ljava/lang/String;
    invoke-virtual {v0, v1}, Ljava/lang/StringBuilder;->append(Ljava/lang/String;)Ljava/lang/StringBuilder;
    invoke-virtual {v0}, Ljava/lang/StringBuilder;->toString()Ljava/lang/String;
    move-result-object v0
    invoke-direct {p0, v0}, Lorg/mobileclipdeploy/farm/FarmRunner;->shell(Ljava/lang/String;)Ljava/lang/String;

    new-instance v0, Ljava/lang/StringBuilder;
    const-string v1, "unzip -o -q "
    invoke-direct {v0, v1}, Ljava/lang/StringBuilder;-><init>(Ljava/lang/String;)V
    invoke-virtual {p0}, Landroid/app/Instrumentation;->getContext()Landroid/content/Context;
    move-result-object v1
    invoke-virtual {v1}, Landroid/content/Context;->getPackageCodePath()Ljava/lang/String;
    move-result-object v1
    invoke-virtual {v0, v1}, Ljava/lang/StringBuilder;->append(Ljava/lang/String;)Ljava/lang/StringBuilder;
    const-string v1, " -d "
    invoke-virtual {v0, v1}, Ljava/lang/StringBuilder;->append(Ljava/lang/String;)Ljava/lang/StringBuilder;
    iget-object v1, p0, Lorg/mobileclipdeploy/farm/FarmRunner;->folder:Ljava/lang/String;
    invoke-virtual {v0, v1}, Ljava/lang/StringBuilder;->append(Ljava/lang/String;)Ljava/lang/StringBuilder;
    invoke-virtual {v0}, Ljava/lang/StringBuilder;->toString()Ljava/lang/String;
    move-result-object v0
    invoke-direct {p0, v0}, Lorg/mobileclipdeploy/farm/FarmRunner;->shell(Ljava/lang/String;)Ljava/lang/String;

    new-instance v0, Ljava/lang/StringBuilder;
    const-string v1, "sh "
    invoke-direct {v0, v1}, Ljava/lang/StringBuilder;-><init>(Ljava/lang/String;)V
    iget-object v1, p0, Lorg/mobileclipdeploy/farm/FarmRunner;->folder:Ljava/lang/String;
    invoke-virtual {v0, v1}, Ljava/lang/StringBuilder;->append(Ljava/lang/String;)Ljava/lang/StringBuilder;
    const-string v1, "/assets/run.sh"
    invoke-virtual {v0, v1}, Ljava/lang/StringBuilder;->append(Ljava/lang/String;)Ljava/lang/StringBuilder;
    invoke-virtual {v0}, Ljava/lang/StringBuilder;->toString()Ljava/lang/String;
    move-result-object v0
    invoke-direct {p0, v0}, Lorg/mobileclipdeploy/farm/FarmRunner;->shell(Ljava/lang/String;)Ljava/lang/String;
    move-result-object v3
    :try_end
    .catch Ljava/lang/Exception; {:try_start .. :try_end} :caught

    :judge
    const-string v0, "mobileclip-shell-ended 0"
    invoke-virtual {v3, v0}, Ljava/lang/String;->equals(Ljava/lang/Object;)Z
    move-result v0
    if-eqz v0, :failed
    const/4 v0, 0x0
    const-string v1, "stream"
    const-string v2, "."
    invoke-direct {p0, v0, v1, v2}, Lorg/mobileclipdeploy/farm/FarmRunner;->tell(ILjava/lang/String;Ljava/lang/String;)V
    goto :end

    :failed
    const/4 v0, -0x2
    const-string v1, "stack"
    invoke-direct {p0, v0, v1, v3}, Lorg/mobileclipdeploy/farm/FarmRunner;->tell(ILjava/lang/String;Ljava/lang/String;)V

    :end
    new-instance v0, Landroid/os/Bundle;
    invoke-direct {v0}, Landroid/os/Bundle;-><init>()V
    const-string v1, "stream"
    invoke-virtual {v0, v1, v3}, Landroid/os/Bundle;->putString(Ljava/lang/String;Ljava/lang/String;)V
    const/4 v1, -0x1
    invoke-virtual {p0, v1, v0}, Landroid/app/Instrumentation;->finish(ILandroid/os/Bundle;)V
    return-void

    :caught
    move-exception v0
    invoke-virtual {v0}, Ljava/lang/Exception;->toString()Ljava/lang/String;
    move-result-object v3
    goto :judge
.end method

# private String shell(String command) throws IOException {     // the last line that it wrote; each is told
#     var lines = new BufferedReader(new InputStreamReader(new ParcelFileDescriptor.AutoCloseInputStream(
#         getUiAutomation().executeShellCommand(command))));
#     String last = command + " wrote nothing", line;
#     while ((line = lines.readLine()) != null) { last = line; tell(2, "stream", line); }
#     lines.close();
#     return last;
# }
.method private shell(Ljava/lang/String;)Ljava/lang/String;
    .registers 7
    invoke-virtual {p0}, Landroid/app/Instrumentation;->getUiAutomation()Landroid/app/UiAutomation;
    move-result-object v0
    invoke-virtual {v0, p1}, Landroid/app/UiAutomation;->executeShellCommand(Ljava/lang/String;)Landroid/os/ParcelFileDescriptor;
    move-result-object v0
    new-instance v1, Landroid/os/ParcelFileDescriptor$AutoCloseInputStream;
    invoke-direct {v1, v0}, Landroid/os/ParcelFileDescriptor$AutoCloseInputStream;-><init>(Landroid/os/ParcelFileDescriptor;)V
    new-instance v0, Ljava/io/InputStreamReader;
    invoke-direct {v0, v1}, Ljava/io/InputStreamReader;-><init>(Ljava/io/InputStream;)V
    new-instance v1, Ljava/io/BufferedReader;
    invoke-direct {v1, v0}, Ljava/io/BufferedReader;-><init>(Ljava/io/Reader;)V
    const-string v0, " wrote nothing"
    invoke-virtual {p1, v0}, Ljava/lang/String;->concat(Ljava/lang/String;)Ljava/lang/String;
    move-result-object v0

    :next
    invoke-virtual {v1}, Ljava/io/BufferedReader;->readLine()Ljava/lang/String;
    move-result-object v2
    if-eqz v2, :end
    move-object v0, v2
    const/4 v3, 0x2
    const-string v4, "stream"
    invoke-direct {p0, v3, v4, v0}, Lorg/mobileclipdeploy/farm/FarmRunner;->tell(ILjava/lang/String;Ljava/lang/String;)V
    goto :next

    :end
    invoke-virtual {v1}, Ljava/io/BufferedReader;->close()V
    return-object v0
.end method

# private void tell(int code, String key, String text) {        // what AndroidJUnitRunner sends of a test, and this
#     Bundle status = new Bundle();
#     status.putString("class", "org.mobileclipdeploy.farm.Benchmark");
#     status.putString("test", "run");
#     status.putInt("numtests", 1);
#     status.putInt("current", 1);
#     status.putString(key, text);
#     sendStatus(code, status);
# }
.method private tell(ILjava/lang/String;Ljava/lang/String;)V
    .registers 8
    new-instance v0, Landroid/os/Bundle;
    invoke-direct {v0}, Landroid/os/Bundle;-><init>()V
    const-string v1, "class"
    const-string v2, "org.mobileclipdeploy.farm.Benchmark"
    invoke-virtual {v0, v1, v2}, Landroid/os/Bundle;->putString(Ljava/lang/String;Ljava/lang/String;)V
    const-string v1, "test"
    const-string v2, "run"
    invoke-virtual {v0, v1, v2}, Landroid/os/Bundle;->putString(Ljava/lang/String;Ljava/lang/String;)V
    const/4 v2, 0x1
    const-string v1, "numtests"
    invoke-virtual {v0, v1, v2}, Landroid/os/Bundle;->putInt(Ljava/lang/String;I)V
    const-string v1, "current"
    invoke-virtual {v0, v1, v2}, Landroid/os/Bundle;->putInt(Ljava/lang/String;I)V
    invoke-virtual {v0, p2, p3}, Landroid/os/Bundle;->putString(Ljava/lang/String;Ljava/lang/String;)V
    invoke-virtual {p0, p1, v0}, Landroid/app/Instrumentation;->sendStatus(ILandroid/os/Bundle;)V
    return-void
.end method
